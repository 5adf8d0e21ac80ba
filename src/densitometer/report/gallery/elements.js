// Elements of the page: found, made, and announced to screen readers. Every text reaches it as text.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function breakable(name) {
  // A long name may be broken after an underscore.
  return name.split("_").flatMap((part, i, all) => (i < all.length - 1 ? [`${part}_`, make("wbr")] : [part]));
}

export function say(text) {
  $("status").textContent = text;
}
