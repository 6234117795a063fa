/** Implements AuditService.Watch: one stream of audit records, which reads the log again whenever records were written. */
import { create, toBinary } from "@bufbuild/protobuf";
import { AuditServiceWatchResponseSchema } from "../../gen/waymark/control/v1/audit_pb.js";
import { rethrowInvariant, WaymarkError } from "../lib/errors.ts";
import type { AuditFilter } from "../policy/audit/filter.ts";
import type { AuditRecord, ChainPoint } from "../policy/audit/record.ts";
import type { AuditLog } from "../store/audit/log.io.ts";
import { hexOf, wireRecord } from "./audit-records.ts";
import type { StreamSource } from "./service.ts";

export interface AuditWatchParts {
  readonly log: Pick<AuditLog, "follow" | "readAbove">;
  readonly filter: AuditFilter;
  /** The record after which the stream begins. */
  readonly start: ChainPoint;
  readonly servedBy: string;
  readonly onClose: () => void;
}

/** The stream holds at most one message, and reads no further records until that message was pulled. */
export class AuditWatch implements StreamSource {
  readonly endsAtDrain = true;
  readonly #parts: AuditWatchParts;
  /** The number up to which the stream has read the log. */
  #through: number;
  #unsent: Uint8Array | undefined;
  #isReading = false;
  /** Whether the log may have records that the stream has not read. */
  #hasNews = true;
  #unfollow: (() => void) | undefined;
  #ports: Parameters<StreamSource["attach"]> | undefined;

  constructor(parts: AuditWatchParts) {
    this.#parts = parts;
    this.#through = parts.start.number;
    this.#unsent = this.#message(parts.start, []);
  }

  attach(...ports: Parameters<StreamSource["attach"]>): void {
    this.#ports = ports;
    this.#unfollow = this.#parts.log.follow(() => {
      this.#hasNews = true;
      this.#read();
    });
  }

  pull(): Uint8Array | undefined {
    const message = this.#unsent;
    this.#unsent = undefined;
    this.#read();
    return message;
  }

  close(): void {
    this.#ports = undefined;
    this.#unfollow?.();
    this.#parts.onClose();
  }

  #read(): void {
    if (this.#isReading || !this.#hasNews || this.#unsent !== undefined || this.#ports === undefined) return;
    this.#isReading = true;
    this.#hasNews = false;
    const { log, filter } = this.#parts;
    log.readAbove(this.#through, filter).then(
      (found) => this.#found(found),
      (error: unknown) => {
        rethrowInvariant(error);
        this.#ports?.[1](error instanceof WaymarkError ? error : undefined);
      },
    );
  }

  #found({ records, through, isDone }: Awaited<ReturnType<AuditLog["readAbove"]>>): void {
    this.#isReading = false;
    this.#through = through;
    this.#hasNews ||= !isDone;
    const last = records.at(-1);
    if (last === undefined) {
      this.#read();
      return;
    }
    this.#unsent = this.#message(last, records);
    this.#ports?.[0]();
  }

  #message({ number, hash }: ChainPoint, records: readonly AuditRecord[]): Uint8Array {
    const { servedBy } = this.#parts;
    const fields = { records: records.map(wireRecord), number: BigInt(number), hash: hexOf(hash), servedBy };
    return toBinary(AuditServiceWatchResponseSchema, create(AuditServiceWatchResponseSchema, fields));
  }
}
