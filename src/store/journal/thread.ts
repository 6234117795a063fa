/** The messages between the journal's two threads. */
import type { FileProblem } from "../database-format.ts";
import type { JournalLease, SeqNumbers } from "./format.ts";

export interface OpenRequest {
  readonly directory: string;
  /** From the settings; undefined to keep the directory's. */
  readonly nodeId: string | undefined;
  /** Taken when the directory is new and the settings name none. */
  readonly freshNodeId: string;
  /** Taken when the directory is new or a new generation is forced. */
  readonly freshGeneration: number;
  readonly forceNewGeneration: boolean;
  /** What this start is called. */
  readonly boot: string;
  /** Keeps clients from choosing names that collide. */
  readonly hashSeed: number;
}

export type ToWorker =
  /** First; the answer is `opened` or `refused`. */
  | { readonly kind: "open"; readonly request: OpenRequest }
  /** Give the next rows; the answer is `rows` or `replayed`. */
  | { readonly kind: "next" }
  /** Make this batch durable; the answer is `written` or `failed`. */
  | { readonly kind: "write"; readonly batch: ArrayBuffer }
  /** The rows are another generation's from now on; the answer is `written` or `failed`. */
  | { readonly kind: "renew"; readonly generation: number; readonly numbers: SeqNumbers | undefined }
  /** Others are about to hear what this start is called; the answer is `written` or `failed`. */
  | { readonly kind: "name" }
  | { readonly kind: "close" };

export interface NumberedLease extends JournalLease {
  /** What rows name the lease by. */
  readonly lease: number;
}

export interface JournalMeta {
  readonly nodeId: string;
  readonly generation: number;
  /** How many times the directory was opened, this one included. */
  readonly boots: number;
  readonly lastSeq: number;
  readonly floor: number;
}

/** Sizes that only the writing thread sees; sent along with answers. */
export interface FileState {
  readonly rows: number;
  readonly fileBytes: number;
  readonly walBytes: number;
}

export type FromWorker =
  | {
      readonly kind: "opened";
      readonly meta: JournalMeta;
      readonly leases: readonly NumberedLease[];
      readonly earlierBoots: readonly string[];
    }
  | { readonly kind: "refused"; readonly problem: FileProblem; readonly message: string }
  | { readonly kind: "rows"; readonly chunk: Uint8Array<ArrayBuffer> }
  | { readonly kind: "replayed"; readonly state: FileState }
  | { readonly kind: "written"; readonly commitMs: number; readonly state: FileState }
  | { readonly kind: "failed"; readonly message: string; readonly state: FileState }
  /** A checkpoint could not be made; it is tried again. */
  | { readonly kind: "checkpointFailed"; readonly message: string };
