/** What a question for a zone asks for, where its signer may have the zone, and what became of it. */
import type { LabelsOf } from "../../lib/metrics/metrics.ts";
import type { Signing } from "../wire/tsig.ts";

/** Who asks for which zone. */
export interface AskedTransfer {
  readonly keyName: string;
  readonly zone: string;
  readonly viewIndex: number;
  /** Where the question came from. */
  readonly address: string;
}

/** What was sent to whom. */
export interface EndedTransfer extends AskedTransfer {
  readonly outcome: LabelsOf<"dns_transfers_total">["outcome"];
  readonly serial: number;
  readonly recordCount: number;
  /** Names that were told in part. */
  readonly crowdedNameCount: number;
  readonly sizeBytes: number;
}

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
