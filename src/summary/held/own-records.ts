/** The records of this node's own origin in the summary replica: what it made, and what it took from borders. */
import { BODY, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Time } from "../../lib/machine.ts";
import type { Opened } from "../codec.ts";
import type { SummaryStamper } from "../stamper.ts";

export class OwnRecords {
  readonly #replica: Replica;
  readonly #stamper: SummaryStamper;

  constructor(replica: Replica, stamper: SummaryStamper) {
    this.#replica = replica;
    this.#stamper = stamper;
  }

  /** This node's entry of the key, whether it counts or not. */
  find(key: KeyText): StoredRecord | undefined {
    const own = this.#replica.own(key);
    return own?.body === BODY.ENTRY ? own : undefined;
  }

  /** The version that this node ended last; 0 if it did not. An older one must not come back. */
  endedVersion(key: KeyText): number {
    const own = this.#replica.own(key);
    return own === undefined || own.body === BODY.ENTRY ? 0 : own.hlc;
  }

  /** Holds a record. No journal has it, so that it counts at once. */
  put(content: Opened, finding: number, time: Time): void {
    this.#stamper.stage(this.#replica, content).finding = finding;
    this.#replica.commit(this.#replica.lastSeq, time);
  }

  /** Holds it no longer. */
  end(own: StoredRecord, time: Time): void {
    this.#replica.stageTombstone(own, BODY.EXPIRED, own.hlc);
    this.#replica.commit(this.#replica.lastSeq, time);
  }
}
