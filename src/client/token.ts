/** What a bearer token may be made of. */

/** As a header may carry it, and as servers read it from their token files. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]{1,8192}$/.test(text);
}

export const TOKEN_RULE = "it must be 1 to 8192 printable ASCII characters without spaces and line ends";
