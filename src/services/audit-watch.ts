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
  /** Returns the record after which the stream begins. */
  readonly start: () => Promise<ChainPoint>;
  readonly servedBy: string;
  readonly onClose: () => void;
}

/** The stream holds at most one message, and reads no further records until that message was pulled. */
export class AuditWatch implements StreamSource {
  readonly endsAtDrain = true;
  readonly #parts: AuditWatchParts;
  readonly #messages = this.#read();
  /** Resolved when records were written after the last read began. */
  #written = Promise.withResolvers<void>();
  #unsent: Uint8Array | undefined;
  #ports: Parameters<StreamSource["attach"]> | undefined;
  #unfollow: (() => void) | undefined;

  constructor(parts: AuditWatchParts) {
    this.#parts = parts;
  }

  attach(...ports: Parameters<StreamSource["attach"]>): void {
    this.#ports = ports;
    this.#unfollow = this.#parts.log.follow(() => this.#written.resolve());
    this.#next();
  }

  pull(): Uint8Array | undefined {
    const message = this.#unsent;
    this.#unsent = undefined;
    if (message !== undefined) this.#next();
    return message;
  }

  close(): void {
    this.#ports = undefined;
    this.#unfollow?.();
    this.#parts.onClose();
  }

  #next(): void {
    this.#messages.next().then(
      ({ value }) => {
        this.#unsent = value;
        return this.#ports?.[0]();
      },
      (error: unknown) => {
        rethrowInvariant(error);
        this.#ports?.[1](error instanceof WaymarkError ? error : undefined);
      },
    );
  }

  async *#read(): AsyncGenerator<Uint8Array, undefined> {
    const { log, filter, start } = this.#parts;
    const first = await start();
    yield this.#message(first, []);
    for (let from = first.number; ; ) {
      this.#written = Promise.withResolvers();
      const { records, through, isDone } = await log.readAbove(from, filter);
      from = through;
      const last = records.at(-1);
      if (last !== undefined) yield this.#message(last, records);
      if (isDone) await this.#written.promise;
    }
  }

  #message({ number, hash }: ChainPoint, records: readonly AuditRecord[]): Uint8Array {
    const { servedBy } = this.#parts;
    const fields = { records: records.map(wireRecord), number: BigInt(number), hash: hexOf(hash), servedBy };
    return toBinary(AuditServiceWatchResponseSchema, create(AuditServiceWatchResponseSchema, fields));
  }
}
