/** The records of this node's own origin in the summary replica: what it made, and what it took from borders. */
import { BODY, type KeyText, keyParts } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Time } from "../../lib/machine.ts";
import type { Opened } from "../codec.ts";
import type { SummaryStamper } from "../stamper.ts";
import { isProven } from "./judge.ts";

/** The least stamp. */
const UNPROVEN = 1;

export class OwnRecords {
  readonly #replica: Replica;
  /** By cluster the number of the last record that was made before a key of it ceased to count. */
  readonly #distrusted = new Map<string, number>();
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
    if (
      own === undefined ||
      own.body === BODY.ENTRY ||
      own.hlc === UNPROVEN ||
      own.seq <= (this.#distrusted.get(keyParts(key).clusterId) ?? 0)
    )
      return 0;
    return own.hlc;
  }

  /** A key of the cluster counts no more. An end does not say which key signed what it ended, so no version that was ended before keeps anything out. */
  distrust(cluster: string): void {
    this.#distrusted.set(cluster, this.#replica.lastSeq);
  }

  /** Holds a record. No journal has it, so that it counts at once. */
  put(content: Opened, finding: number, time: Time): void {
    this.#stamper.stage(this.#replica, content).finding = finding;
    this.#replica.commit(this.#replica.lastSeq, time);
  }

  /** Holds it no longer. The version of what is not proven, or no longer, keeps nothing out. */
  end(own: StoredRecord, time: Time): void {
    this.#replica.stageTombstone(own, BODY.EXPIRED, isProven(own) ? own.hlc : UNPROVEN);
    this.#replica.commit(this.#replica.lastSeq, time);
  }
}
