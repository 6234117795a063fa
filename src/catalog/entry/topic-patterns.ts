/** Subject patterns of topics: which subjects a pattern stands for. */

/** A pattern's words; `*` one word, `#` any number of words, also none. */
export type Pattern = readonly string[];

export const PATTERN_RULE =
  "must be words separated by dots, where * stands for one word, # for any number of words, and > at the end for one or more";
export const SUBJECT_RULE = "must be words separated by dots, without *, # and >";
/** Words and patterns longer than this are refused before anything is compared. */
const MAX_LENGTH = 256;
const WORD = /^[^.*#>\s\p{Cc}]+$/u;

/** Undefined for text that is no pattern. */
export function parsePattern(text: string): Pattern | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const words = patternWords(text);
  return words.every((word) => word === "*" || word === "#" || WORD.test(word)) ? words : undefined;
}

/** The words of what is known to be a pattern. A `>` at the end is `#`, as NATS writes it, but stands for one word at least. */
export function patternWords(text: string): Pattern {
  const words = text.split(".");
  if (words.at(-1) === ">") words.splice(-1, 1, "*", "#");
  return words;
}

/** The words of a subject, or undefined for text that is none. */
export function parseSubject(text: string): readonly string[] | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const words = text.split(".");
  return words.every((word) => WORD.test(word)) ? words : undefined;
}

/** Whether a pattern stands for the subject. `tally` counts the words looked at: at most their lengths multiplied, mostly their sum. */
export function matchesSubject(pattern: Pattern, subject: readonly string[], tally = { steps: 0 }): boolean {
  let at = 0;
  let said = 0;
  // The last `#`, and the subject's word after those that it stands for so far.
  let tail: { readonly at: number; said: number } | undefined;
  while (said < subject.length) {
    tally.steps += 1;
    const word = pattern[at];
    if (word === "#") {
      tail = { at, said };
      at += 1;
    } else if (word !== undefined && (word === "*" || word === subject[said])) {
      at += 1;
      said += 1;
    } else if (tail === undefined) {
      return false;
    } else {
      // It stands for one word more. No earlier `#` has to: what they left is the most there is.
      tail.said += 1;
      said = tail.said;
      at = tail.at + 1;
    }
  }
  while (pattern[at] === "#") at += 1;
  return at === pattern.length;
}
