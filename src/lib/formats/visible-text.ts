/** Text of others where people see it: characters that a terminal obeys, or that change the reading direction, are written as escapes. */

// oxlint-disable-next-line no-control-regex -- these are the characters that are escaped
const OBEYED = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
/** These among them that `JSON.stringify` leaves as they are. */
const OBEYED_IN_JSON = /[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** Whether a text has such characters. */
export function hasControlCharacters(text: string): boolean {
  return text.search(OBEYED) !== -1;
}

/** The text with what `escaped` makes of each of these characters. */
export function visibleText(text: string, escaped: (char: string) => string): string {
  return text.replaceAll(OBEYED, escaped);
}

/** JSON that means the same, with these characters in its texts as `\uXXXX`. */
export function visibleJson(json: string): string {
  return json.replaceAll(OBEYED_IN_JSON, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
