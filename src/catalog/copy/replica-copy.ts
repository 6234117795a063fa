/** An exact copy of a replica, in another thread: it applies the operations of a `ReplicaFeed`, in their order. */
import { assert } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { EntryStamper } from "../entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../entry/names.ts";
import { decodeRecord } from "../record/codec.ts";
import { BODY, HEALTH, type KeyText, keyText } from "../record/record.ts";
import { entryFields, type Origin, StoredRecord, type StoredRecordFields } from "../record/stored-record.ts";
import { NO_TRAITS } from "../record/traits.ts";
import { type PendingTouch, UNSURE } from "../replica/past-views.ts";
import type { Replica } from "../replica/replica.ts";
import { type ChangeMessage, MessageBufferReader, OP } from "./change-codec.ts";
import { LIVES, NO_VIEW, UNSURE_VIEW } from "./replica-feed.ts";

/** A copy drops nothing by age: the feed says which records are dropped. */
const NO_TIME: Time = { monoMs: 0, wallMs: 0 };

export interface ReplicaCopyOptions {
  /** An empty replica of the same node. */
  readonly replica: Replica;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** Called at each mark of the feed, when everything before it is applied. It reads the values that belong to the mark. */
  readonly onMark?: (number: number, said: Pick<MessageBufferReader, "number" | "text" | "value">) => void;
  /** Called when the copy has just become complete. */
  readonly onWhole?: () => void;
}

export class ReplicaCopy {
  readonly #options: ReplicaCopyOptions;
  readonly #origins: Origin[] = [];
  #isWhole = false;

  constructor(options: ReplicaCopyOptions) {
    this.#options = options;
  }

  /** Whether the copy may be read. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** Applies the operations of a message. */
  hear(said: ChangeMessage): void {
    const reader = new MessageBufferReader(said);
    while (!reader.isDone) this.#do(reader.number(), reader);
  }

  #do(what: number, said: MessageBufferReader): void {
    const { replica, onMark } = this.#options;
    switch (what) {
      case OP.ORIGIN:
        return this.#origin(said);
      case OP.INSTALL: {
        const origin = this.#originAt(said.number());
        const owed = readOwed(said);
        const fields = this.#record(origin, said);
        replica.install(new StoredRecord(fields), NO_TIME, this.#owedOf(fields.key, owed));
        return;
      }
      case OP.SUPERSEDE:
        return replica.supersede(new StoredRecord(this.#record(this.#originAt(said.number()), said)), NO_TIME);
      case OP.TOUCH:
      case OP.WITHDRAW:
        return this.#change(what, said);
      case OP.DROP:
        return this.#drop(this.#originAt(said.number()), said);
      case OP.PASS:
        replica.passRevision();
        return;
      case OP.FORGET:
        return replica.forgetName(this.#originAt(said.number()));
      case OP.READMIT:
        return this.#restoreOrigin(said.text());
      case OP.PLACE:
        return this.#place(said);
      case OP.START:
        return this.#start(said);
      case OP.MARK:
        onMark?.(said.number(), said);
        return;
      default:
        assert(false, "unknown operation in the feed of a replica copy", { what });
    }
  }

  #origin(said: MessageBufferReader): void {
    const { replica } = this.#options;
    const [index, generation, life, markedSeq] = [said.number(), said.number(), said.number(), said.number()];
    const [through, floor, from, until, lackCount] = [said.number(), said.number(), said.number(), said.number(), said.number()];
    const [nodeId, clusterId, region] = [said.text(), said.text(), said.text()];
    const origin = index === 0 ? replica.self : (this.#origins[index] ?? replica.origin(nodeId, generation));
    this.#origins[index] = origin;
    if (origin.generation !== generation) {
      // Digests sum delta ids, which contain the generation.
      replica.digests.forget();
      replica.renameSelf(generation);
    }
    const unsettled = from < 0 ? undefined : { from, until };
    const lacks = lackCount === 0 ? undefined : { count: lackCount, why: "" };
    Object.assign(origin, { life: LIVES[life], markedSeq, through, floor, clusterId, region, unsettled, lacks });
  }

  #record(origin: Origin, said: MessageBufferReader): StoredRecordFields {
    const { replica, stamper } = this.#options;
    const record = decodeRecord(said.bytes(), PROTOCOL_BOUNDS);
    if (record.body !== BODY.ENTRY) {
      const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
      return { ...record, origin, ...record.key, ...gone, key: keyText(record.key) };
    }
    return entryFields(record, stamper.entryOfStored(record.entry), { origin, slab: replica.slab });
  }

  #owedOf(key: KeyText, { before, since, view }: ReturnType<typeof readOwed>): PendingTouch {
    const between = view === UNSURE_VIEW ? UNSURE : view === NO_VIEW ? undefined : this.#held(key, this.#originAt(view));
    return { before, since, between };
  }

  #change(what: number, said: MessageBufferReader): void {
    const { replica } = this.#options;
    const origin = this.#originAt(said.number());
    const owed = readOwed(said);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the feed contains the text of a key
    const key = said.text() as KeyText;
    const stored = this.#held(key, origin);
    assert(stored !== undefined, "the feed of a replica copy changes a record that the copy does not have", { key, origin: origin.id });
    if (what === OP.TOUCH) replica.touch(stored, this.#owedOf(key, owed));
    else replica.withdraw(stored, NO_TIME, this.#owedOf(key, owed));
  }

  #drop(origin: Origin, said: MessageBufferReader): void {
    const { replica } = this.#options;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    const key = said.text() as KeyText;
    if (!this.isWhole) return replica.unplace(key, origin);
    const stored = this.#held(key, origin);
    assert(stored !== undefined, "the feed of a replica copy drops a record that the copy does not have", { key, origin: origin.id });
    replica.drop(stored);
  }

  #restoreOrigin(id: string): void {
    const slash = id.lastIndexOf("/");
    this.#options.replica.restoreOrigin(id.slice(0, slash), Number(id.slice(slash + 1)));
  }

  #place(said: MessageBufferReader): void {
    const { replica } = this.#options;
    const origin = this.#originAt(said.number());
    const [revision, bornRevision, filterRevision] = [said.number(), said.number(), said.number()];
    const stored = new StoredRecord(this.#record(origin, said));
    replica.place(Object.assign(stored, { revision, bornRevision, filterRevision }));
  }

  #start(said: MessageBufferReader): void {
    const [revision, collectedRevision, forgottenCount, localCount] = [said.number(), said.number(), said.number(), said.number()];
    const forgotten = Array.from({ length: forgottenCount }, () => said.text());
    const localNamespaces = Array.from({ length: localCount }, () => said.text());
    this.#options.replica.startAt({ revision, collectedRevision, forgotten, localNamespaces });
    this.#isWhole = true;
    this.#options.onWhole?.();
  }

  #originAt(index: number): Origin {
    const origin = this.#origins[index];
    assert(origin !== undefined, "the feed of a replica copy refers to an origin that it has not defined", { index });
    return origin;
  }

  #held(key: KeyText, origin: Origin): StoredRecord | undefined {
    return this.#options.replica.records(key).find((stored) => stored.origin === origin);
  }
}

function readOwed(said: MessageBufferReader) {
  const [isRenamed, since, view] = [said.number() === 1, said.number(), said.number()];
  return { before: isRenamed ? ("renamed" as const) : ("seen" as const), since, view };
}
