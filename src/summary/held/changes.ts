/** The keys in the order in which their versions changed, for border links (docs/design/summaries.md, Digests). What is only shown or hidden is no change. */
import { clusterOfKey, type KeyText } from "../../catalog/record/record.ts";
import { ChangeLog } from "../../catalog/replica/change-log.ts";
import type { Known } from "./known.ts";

/** What is known of the keys of a cluster, and with it when each changed last. */
type KnownOf = (cluster: string) => Known | undefined;

export class Changes {
  readonly #knownOf: KnownOf;
  /** Numbers of beacons, of which there is one a source. Those of summaries stand in `Known`: a map of them took 80 bytes a summary. */
  readonly #beacons = new Map<KeyText, number>();
  readonly #log = new ChangeLog<KeyText>((key) => this.#orderOf(key));
  #revision = 0;
  /** A node without borders has no reader, and keeps nothing. */
  #isRead = false;

  constructor(knownOf: KnownOf) {
    this.#knownOf = knownOf;
  }

  /** The number of the last change. Readers begin here, so changes are kept from the first time that somebody asks. */
  get revision(): number {
    this.#isRead = true;
    return this.#revision;
  }

  /** The version of a summary that counts has changed. It is known. */
  note(key: KeyText, known: Known): void {
    if (!this.#isRead) return;
    const before = known.orderOf(key);
    known.setOrder(key, this.#revision + 1);
    this.#append(key, before);
  }

  noteBeacon(key: KeyText): void {
    if (!this.#isRead) return;
    const before = this.#beacons.get(key) ?? 0;
    this.#beacons.set(key, this.#revision + 1);
    this.#append(key, before);
  }

  /** Nothing is held of the summary any more. It is still known. */
  drop(key: KeyText, known: Known): void {
    const before = known.orderOf(key);
    if (before === 0) return;
    known.setOrder(key, 0);
    this.#log.retire(before);
  }

  /** Visits the keys that changed after a revision, oldest change first, until `visit` returns false. */
  since(revision: number, visit: (key: KeyText, revision: number) => boolean): void {
    this.#log.forEachSince(revision, visit);
  }

  /** The number of the key is the next one already. */
  #append(key: KeyText, before: number): void {
    this.#revision += 1;
    if (before > 0) this.#log.retire(before);
    this.#log.append(this.#revision, key);
  }

  #orderOf(key: KeyText): number {
    return this.#beacons.get(key) ?? this.#knownOf(clusterOfKey(key))?.orderOf(key) ?? 0;
  }
}
