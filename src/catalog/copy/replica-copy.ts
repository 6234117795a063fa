/** An exact copy of a replica in another thread, made by applying the operations of a `ReplicaFeed` in order. */
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

/** A copy never drops records because of their age: the feed determines which records are dropped. */
const NO_TIME: Time = { monoMs: 0, wallMs: 0 };

export interface ReplicaCopyOptions {
  /** An empty replica for the same node. */
  readonly replica: Replica;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** Called for each mark in the feed, after everything before the mark has been applied. It reads the values that belong to the mark. */
  readonly onMark?: (number: number, reader: Pick<MessageBufferReader, "number" | "text" | "value">) => void;
  /** Called when the copy becomes complete. */
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

  /** Applies the operations in a message. */
  hear(message: ChangeMessage): void {
    const reader = new MessageBufferReader(message);
    while (!reader.isDone) this.#do(reader.number(), reader);
  }

  #do(what: number, reader: MessageBufferReader): void {
    const { replica, onMark } = this.#options;
    switch (what) {
      case OP.ORIGIN:
        return this.#origin(reader);
      case OP.INSTALL: {
        const origin = this.#originAt(reader.number());
        const pending = readPendingTouch(reader);
        const fields = this.#record(origin, reader);
        replica.install(new StoredRecord(fields), NO_TIME, this.#pendingTouchOf(fields.key, pending));
        return;
      }
      case OP.SUPERSEDE:
        return replica.supersede(new StoredRecord(this.#record(this.#originAt(reader.number()), reader)), NO_TIME);
      case OP.TOUCH:
      case OP.WITHDRAW:
        return this.#change(what, reader);
      case OP.DROP:
        return this.#drop(this.#originAt(reader.number()), reader);
      case OP.PASS:
        replica.passRevision();
        return;
      case OP.FORGET:
        return replica.forgetName(this.#originAt(reader.number()));
      case OP.READMIT:
        return this.#restoreOrigin(reader.text());
      case OP.PLACE:
        return this.#place(reader);
      case OP.START:
        return this.#start(reader);
      case OP.MARK:
        onMark?.(reader.number(), reader);
        return;
      default:
        assert(false, "the feed for a replica copy contains an unknown operation", { what });
    }
  }

  #origin(reader: MessageBufferReader): void {
    const { replica } = this.#options;
    const [index, generation, life, markedSeq] = [reader.number(), reader.number(), reader.number(), reader.number()];
    const [through, floor, from, until, lackCount] = [reader.number(), reader.number(), reader.number(), reader.number(), reader.number()];
    const [nodeId, clusterId, region] = [reader.text(), reader.text(), reader.text()];
    const origin = index === 0 ? replica.self : (this.#origins[index] ?? replica.origin(nodeId, generation));
    this.#origins[index] = origin;
    if (origin.generation !== generation) {
      // Digests are sums of hashed delta ids, and a delta id contains the generation.
      replica.digests.forget();
      replica.renameSelf(generation);
    }
    const unsettled = from < 0 ? undefined : { from, until };
    const lacks = lackCount === 0 ? undefined : { count: lackCount, why: "" };
    Object.assign(origin, { life: LIVES[life], markedSeq, through, floor, clusterId, region, unsettled, lacks });
  }

  #record(origin: Origin, reader: MessageBufferReader): StoredRecordFields {
    const { replica, stamper } = this.#options;
    const record = decodeRecord(reader.bytes(), PROTOCOL_BOUNDS);
    if (record.body !== BODY.ENTRY) {
      const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
      return { ...record, origin, ...record.key, ...gone, key: keyText(record.key) };
    }
    return entryFields(record, stamper.entryOfStored(record.entry), { origin, slab: replica.slab });
  }

  #pendingTouchOf(key: KeyText, { before, since, view }: ReturnType<typeof readPendingTouch>): PendingTouch {
    const between = view === UNSURE_VIEW ? UNSURE : view === NO_VIEW ? undefined : this.#held(key, this.#originAt(view));
    return { before, since, between };
  }

  #change(what: number, reader: MessageBufferReader): void {
    const { replica } = this.#options;
    const origin = this.#originAt(reader.number());
    const pending = readPendingTouch(reader);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the feed wrote the text of a valid key
    const key = reader.text() as KeyText;
    const stored = this.#held(key, origin);
    assert(stored !== undefined, "the feed changes a record that is not in the copy", { key, origin: origin.id });
    if (what === OP.TOUCH) replica.touch(stored, this.#pendingTouchOf(key, pending));
    else replica.withdraw(stored, NO_TIME, this.#pendingTouchOf(key, pending));
  }

  #drop(origin: Origin, reader: MessageBufferReader): void {
    const { replica } = this.#options;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    const key = reader.text() as KeyText;
    if (!this.isWhole) return replica.unplace(key, origin);
    const stored = this.#held(key, origin);
    assert(stored !== undefined, "the feed drops a record that is not in the copy", { key, origin: origin.id });
    replica.drop(stored);
  }

  #restoreOrigin(id: string): void {
    const slash = id.lastIndexOf("/");
    this.#options.replica.restoreOrigin(id.slice(0, slash), Number(id.slice(slash + 1)));
  }

  #place(reader: MessageBufferReader): void {
    const { replica } = this.#options;
    const origin = this.#originAt(reader.number());
    const [revision, bornRevision, filterRevision] = [reader.number(), reader.number(), reader.number()];
    const stored = new StoredRecord(this.#record(origin, reader));
    replica.place(Object.assign(stored, { revision, bornRevision, filterRevision }));
  }

  #start(reader: MessageBufferReader): void {
    const [revision, collectedRevision, forgottenCount, localCount] = [reader.number(), reader.number(), reader.number(), reader.number()];
    const forgotten = Array.from({ length: forgottenCount }, () => reader.text());
    const localNamespaces = Array.from({ length: localCount }, () => reader.text());
    this.#options.replica.startAt({ revision, collectedRevision, forgotten, localNamespaces });
    this.#isWhole = true;
    this.#options.onWhole?.();
  }

  #originAt(index: number): Origin {
    const origin = this.#origins[index];
    assert(origin !== undefined, "the feed refers to an origin that it has not defined", { index });
    return origin;
  }

  #held(key: KeyText, origin: Origin): StoredRecord | undefined {
    return this.#options.replica.records(key).find((stored) => stored.origin === origin);
  }
}

function readPendingTouch(reader: MessageBufferReader) {
  const [isRenamed, since, view] = [reader.number() === 1, reader.number(), reader.number()];
  return { before: isRenamed ? ("renamed" as const) : ("seen" as const), since, view };
}
