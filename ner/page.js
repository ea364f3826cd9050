
// What the pages share.

// Every text reaches the page as a text node or an attribute, never as markup.
function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") node.addEventListener("click", value);
    else if (key.startsWith("--")) node.style.setProperty(key, value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const count = value => value.toLocaleString("en");

// What cannot be seen is shown by its code: controls, line separators, half characters, words of nothing visible.
const code = text => "\\u" + text.charCodeAt(0).toString(16).padStart(4, "0");
const visible = word => /[^\p{C}\p{Z}]/u.test(word) ? word.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu, code)
  : word.replace(/[^]/g, code) || "(empty)";

// Which words a search found, as a set of their positions.
function hits(words, query) {
  const found = new Set();
  if (!query) return found;
  const starts = [];
  let text = "";
  for (const word of words) {
    starts.push(text.length);
    text += word.toLowerCase() + " ";
  }
  for (let at = text.indexOf(query); at >= 0; at = text.indexOf(query, at + 1))
    starts.forEach((start, word) => {
      if (start < at + query.length && at < (starts[word + 1] ?? text.length) - 1) found.add(word);
    });
  return found;
}

