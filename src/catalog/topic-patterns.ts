/** Subject patterns of topics: which subjects a pattern stands for. */

/** A pattern's words; `*` one word, `#` any number of words, also none. */
export type Pattern = readonly string[];

export const PATTERN_RULE =
  "must be words separated by dots, where * stands for one word, # for any number of words, and > at the end for one or more";
export const SUBJECT_RULE = "must be words separated by dots, without *, # and >";
/** Words and patterns longer than this are refused before anything is compared. */
const MAX_LENGTH = 256;
const WORD = /^[^.*#>\s\p{Cc}]+$/u;

/** Undefined for text that is no pattern. A `>` at the end is `#`, as NATS writes it, but stands for one word at least. */
export function parsePattern(text: string): Pattern | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const words = text.split(".");
  const isTail = words.at(-1) === ">";
  if (isTail) words.splice(-1, 1, "*", "#");
  return words.every((word) => word === "*" || word === "#" || WORD.test(word)) ? words : undefined;
}

/** The words of a subject, or undefined for text that is none. */
export function parseSubject(text: string): readonly string[] | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const words = text.split(".");
  return words.every((word) => WORD.test(word)) ? words : undefined;
}

/** Whether a pattern stands for the subject. Cost: their lengths multiplied, whatever the pattern. */
export function matchesSubject(pattern: Pattern, subject: readonly string[]): boolean {
  // Row by row: whether the words so far of the pattern stand for the first n words of the subject.
  let reached = subject.map(() => false);
  reached.unshift(true);
  for (const word of pattern) {
    const next = reached.map(() => false);
    for (let n = 0; n <= subject.length; n++) {
      if (word === "#") next[n] = reached[n] === true || (n > 0 && next[n - 1] === true);
      else if (n > 0) next[n] = reached[n - 1] === true && (word === "*" || word === subject[n - 1]);
    }
    reached = next;
  }
  return reached.at(-1) === true;
}
