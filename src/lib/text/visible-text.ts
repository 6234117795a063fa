/** Makes untrusted text safe to display: control characters and characters that change the reading direction are replaced by escapes. */

// oxlint-disable-next-line no-control-regex -- these characters are escaped
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
/** The unsafe characters that `JSON.stringify` does not escape. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** Whether a text contains characters that must be escaped. */
export function hasControlCharacters(text: string): boolean {
  return text.search(UNSAFE) !== -1;
}

/** The text in which each of these characters is replaced by the result of `escaped`. */
export function visibleText(text: string, escaped: (char: string) => string): string {
  return text.replaceAll(UNSAFE, escaped);
}

/** Equivalent JSON in which these characters are written as `\uXXXX` in strings. */
export function visibleJson(json: string): string {
  return json.replaceAll(UNSAFE_IN_JSON, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A count with its noun, for display: `1 entry`, `2 entries`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
