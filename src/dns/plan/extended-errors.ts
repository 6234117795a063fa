/** The extended DNS errors that responses carry, by INFO-CODE (RFC 8914; IANA, DNS Parameters). */
export const EXTENDED_ERROR = {
  STALE_ANSWER: 3,
  NOT_READY: 14,
  PROHIBITED: 18,
  NOT_SUPPORTED: 21,
  NO_REACHABLE_AUTHORITY: 22,
  /** RFC 9824, 3.5. */
  INVALID_QUERY_TYPE: 30,
} as const;
export type ExtendedError = (typeof EXTENDED_ERROR)[keyof typeof EXTENDED_ERROR];

const WORDS: Readonly<Record<ExtendedError, string>> = {
  [EXTENDED_ERROR.STALE_ANSWER]: "Stale Answer",
  [EXTENDED_ERROR.NOT_READY]: "Not Ready",
  [EXTENDED_ERROR.PROHIBITED]: "Prohibited",
  [EXTENDED_ERROR.NOT_SUPPORTED]: "Not Supported",
  [EXTENDED_ERROR.NO_REACHABLE_AUTHORITY]: "No Reachable Authority",
  [EXTENDED_ERROR.INVALID_QUERY_TYPE]: "Invalid Query Type",
};

/** `18 (Prohibited)` */
export function extendedErrorText(code: ExtendedError): string {
  return `${code} (${WORDS[code]})`;
}
