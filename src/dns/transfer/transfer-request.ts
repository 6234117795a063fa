/** What is asked for by a question for a zone that its signer may have. */
import type { Signing } from "../wire/tsig.ts";

export interface TransferRequest {
  readonly id: number;
  /** As it is in the query. */
  readonly question: Uint8Array;
  /** The OPT record of each message; empty where the query has none. */
  readonly opt: Uint8Array;
  /** Whether each message is padded, which needs an OPT record (RFC 7830). */
  readonly isPadded: boolean;
  readonly zone: string;
  readonly signing: Signing;
  readonly viewIndex: number;
}
