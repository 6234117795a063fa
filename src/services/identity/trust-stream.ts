/** Implements JoinService.Follow: one stream of the records that a node needs to judge certificates and callers. */
import { create, toBinary } from "@bufbuild/protobuf";
import { JoinServiceFollowResponseSchema, TrustRecordSchema } from "../../../gen/waymark/control/v1/join_pb.js";
import type { TrustChange, TrustCopy } from "../../control/identity/trust.ts";
import type { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { StreamSource } from "../service.ts";

/** The records of the serving node. */
export interface TrustSource {
  /** The records of this cluster. */
  readonly copy: Pick<TrustCopy, "records" | "roots">;
  /**
   * Calls `onChange` with each change of the records of a cluster, until the returned function is called. `copy` has the records. With `isReset`, all
   * of them may have changed.
   */
  follow(onChange: (changes: readonly TrustChange[], isReset: boolean, copy: TrustSource["copy"]) => void): () => void;
}

export interface TrustStreamOptions {
  readonly source: TrustSource;
  /** Whether the reader may have a record. */
  readonly allows: (key: string) => boolean;
  /** The stream adds records to the copy of the reader, and ends. */
  readonly isFinal?: boolean;
  /** Calls `wake` several times a second until the returned function is called. */
  readonly tick: (wake: () => void) => () => void;
}

/** A reader notices within a few of these intervals that its issuer no longer answers. */
const BEAT_MS = 5_000;
const MAX_MESSAGE_BYTES = 262_144;

/** The records that wait to be sent are kept by their keys, so that a slow reader gets only the newest change of each. */
export class TrustStream implements StreamSource {
  readonly endsAtDrain = true;
  readonly #options: TrustStreamOptions;
  readonly #waiting = new Map<string, Uint8Array | undefined>();
  #isReset: boolean;
  #isComplete = true;
  #end: () => void = () => {};
  #sentMonoMs = 0;
  #undo: readonly (() => void)[] = [];

  constructor(options: TrustStreamOptions) {
    this.#options = options;
    this.#reset();
    this.#isReset = options.isFinal !== true;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    if (this.#options.isFinal === true) this.#end = () => end(undefined);
    const { source, tick } = this.#options;
    const unfollow = source.follow((changes, isReset, copy) => {
      if (copy !== source.copy) return;
      if (isReset) this.#reset();
      else for (const { key, value } of changes) this.#add(key, value);
      wake();
    });
    this.#undo = [unfollow, tick(wake)];
    wake();
  }

  pull({ monoMs }: Time): Uint8Array | undefined {
    if (this.#waiting.size === 0 && !this.#isReset && this.#isComplete && monoMs - this.#sentMonoMs < BEAT_MS) return undefined;
    const changes = [];
    let sizeBytes = 0;
    for (const [key, value = new Uint8Array()] of this.#waiting) {
      if (changes.length > 0 && sizeBytes + value.length > MAX_MESSAGE_BYTES) break;
      sizeBytes += key.length + value.length;
      this.#waiting.delete(key);
      changes.push(create(TrustRecordSchema, { key, value }));
    }
    this.#isComplete = this.#waiting.size === 0;
    const message = create(JoinServiceFollowResponseSchema, { reset: this.#isReset, changes, complete: this.#isComplete });
    this.#isReset = false;
    this.#sentMonoMs = monoMs;
    if (this.#isComplete) this.#end();
    return toBinary(JoinServiceFollowResponseSchema, message);
  }

  close(): void {
    for (const undo of this.#undo) undo();
  }

  #reset(): void {
    this.#waiting.clear();
    this.#isReset = true;
    for (const [key, value] of this.#options.source.copy.records) this.#add(key, value);
  }

  #add(key: string, value: Uint8Array | undefined): void {
    if (this.#options.allows(key)) this.#waiting.set(key, value);
  }
}
