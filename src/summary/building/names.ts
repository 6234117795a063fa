/** Finds the services whose records changed, and all that there are, in slices (docs/design/summaries.md, Building). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { isKeyOf, type KeyText, KIND, type Kind, nameOfKey } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";

/** What is read of a replica to learn what changed. */
export type ChangingReplica = Pick<Replica, "changesSince" | "collectedRevision" | "lookup" | "revision">;

const SUMMARISED: ReadonlySet<Kind> = new Set([KIND.SERVICE, KIND.FUNCTION, KIND.TOPIC, KIND.QUEUE, KIND.CACHE]);

interface NamedRecord {
  readonly key: KeyText;
  readonly kind: Kind;
  readonly namespace: string;
}

/** Whether a record is of the cluster, and of a kind and in a namespace that are summarised. */
function isSummarised({ key, kind, namespace }: NamedRecord, clusterId: string): boolean {
  return isKeyOf(clusterId, key) && SUMMARISED.has(kind) && !isControlNamespace(namespace);
}

/** Reads a replica's changes with a cursor of its own. */
export class NameChanges {
  readonly #replica: ChangingReplica;
  readonly #clusterId: string;
  /** Everything up to this revision was told. */
  #revision = 0;

  constructor(replica: ChangingReplica, clusterId: string) {
    this.#replica = replica;
    this.#clusterId = clusterId;
  }

  get isBehind(): boolean {
    return this.#replica.revision !== this.#revision;
  }

  /** Whether records were removed that changed since they were told, so that their names are not known. */
  get isLost(): boolean {
    return this.#replica.collectedRevision > this.#revision;
  }

  /** What changed until now is found in another way. */
  skip(): void {
    this.#revision = this.#replica.revision;
  }

  /** Tells of changed records of summarised services, at most of `maxCount` changes. HOT: once a change. */
  take(maxCount: number, tell: (nameKey: string, stored: StoredRecord) => void): void {
    let left = maxCount;
    this.#replica.changesSince(this.#revision, (stored, revision) => {
      if (left === 0) return false;
      left -= 1;
      this.#revision = revision;
      if (isSummarised(stored, this.#clusterId)) tell(nameOfKey(stored.key), stored);
      return true;
    });
    if (left > 0) this.skip();
  }
}

/** Walks the records of all summarised services, also those that nobody is shown. What changes meanwhile is told by `NameChanges`. */
export class RecordWalk {
  readonly #replica: ChangingReplica;
  readonly #clusterId: string;
  #revision = 0;
  #until = 0;

  constructor(replica: ChangingReplica, clusterId: string) {
    this.#replica = replica;
    this.#clusterId = clusterId;
  }

  get isRunning(): boolean {
    return this.#revision < this.#until;
  }

  /** Begins, from the first record on, also when it is under way. */
  start(): void {
    this.#revision = 0;
    this.#until = this.#replica.revision;
  }

  /** Looks at no more than so many records. */
  step(maxCount: number, tell: (nameKey: string) => void): void {
    let left = maxCount;
    this.#replica.changesSince(this.#revision, (stored, revision) => {
      if (left === 0 || revision > this.#until) return false;
      left -= 1;
      this.#revision = revision;
      if (isSummarised(stored, this.#clusterId)) tell(nameOfKey(stored.key));
      return true;
    });
    if (left > 0) this.#revision = this.#until;
  }
}

/** Walks the names of all summarised services of which there is a visible record. */
export class NameSweep {
  readonly #lookup: EntryIndex;
  readonly #clusterId: string;
  /** Where the walk goes on. Undefined when it is over. */
  #from: string | undefined;

  constructor(lookup: EntryIndex, clusterId: string) {
    this.#lookup = lookup;
    this.#clusterId = clusterId;
  }

  get isRunning(): boolean {
    return this.#from !== undefined;
  }

  /** Begins, from the first name on, also when it is under way. */
  start(): void {
    this.#from = "";
  }

  stop(): void {
    this.#from = undefined;
  }

  /** Looks at no more than so many records. Of a service it looks at the first of the cluster and at those before it. */
  step(maxCount: number, tell: (nameKey: string) => void): void {
    if (this.#from === undefined) return;
    const cursor = this.#lookup.cursor();
    cursor.seek(this.#from);
    for (let left = maxCount; left > 0; left -= 1) {
      const record = cursor.next();
      if (record === undefined) {
        this.#from = undefined;
        return;
      }
      this.#from = `${record.key}\0`;
      if (!isSummarised(record, this.#clusterId)) continue;
      const nameKey = nameOfKey(record.key);
      tell(nameKey);
      // The separator is the smallest character, and no part of a key contains it.
      this.#from = `${nameKey}\u0001`;
      cursor.seek(this.#from);
    }
  }
}
