/** Subject patterns of topics, and the code that matches subjects against patterns. */

/** The words that a pattern consists of. `*` matches one word; `#` matches any number of words, including none. */
export type TopicPattern = readonly string[];

export const PATTERN_RULE =
  "must be words separated by dots, where * matches one word, # matches any number of words, and a final > matches one or more words";
export const SUBJECT_RULE = "must be words separated by dots, without *, # or >";
/** Maximum length. Longer subjects and patterns are rejected before they are compared. */
const MAX_LENGTH = 256;
const WORD = /^[^.*#>\s\p{Cc}]+$/u;

/** Splits a pattern into its words. Undefined if the string is not a pattern. */
export function parsePattern(text: string): TopicPattern | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const words = patternWords(text);
  return words.every((word) => word === "*" || word === "#" || WORD.test(word)) ? words : undefined;
}

/** Splits a valid pattern into its words. A `>` at the end is treated like `#`, as in NATS, but matches at least one word. */
export function patternWords(text: string): TopicPattern {
  const words = text.split(".");
  if (words.at(-1) === ">") words.splice(-1, 1, "*", "#");
  return words;
}

/** Splits a subject into its words. Undefined if the string is not a subject. */
export function parseSubject(text: string): readonly string[] | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const words = text.split(".");
  return words.every((word) => WORD.test(word)) ? words : undefined;
}

/** Whether a pattern matches the subject. `tally` counts the compared words: usually the sum of the two lengths, and at most their product. */
export function matchesSubject(pattern: TopicPattern, subject: readonly string[], tally = { steps: 0 }): boolean {
  let at = 0;
  let position = 0;
  // The last `#`, and the index of the first subject word that it does not cover yet.
  let tail: { readonly at: number; position: number } | undefined;
  while (position < subject.length) {
    tally.steps += 1;
    const word = pattern[at];
    if (word === "#") {
      tail = { at, position };
      at += 1;
    } else if (word !== undefined && (word === "*" || word === subject[position])) {
      at += 1;
      position += 1;
    } else if (tail === undefined) {
      return false;
    } else {
      // Let the last `#` cover one more word. An earlier `#` need not be tried again, because the last one can cover any words that the earlier one
      // leaves.
      tail.position += 1;
      position = tail.position;
      at = tail.at + 1;
    }
  }
  while (pattern[at] === "#") at += 1;
  return at === pattern.length;
}
