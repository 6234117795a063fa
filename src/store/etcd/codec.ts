/**
 * Encodes the store's requests to etcd and decodes the answers. All keys in etcd begin with the prefix of the store, which callers do not see. Keys
 * are read as Latin-1, so that a key that another program wrote keeps its bytes and its place in the order.
 */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  AuthenticateRequestSchema,
  AuthenticateResponseSchema,
  CompactionRequestSchema,
  Compare_CompareResult,
  Compare_CompareTarget,
  RangeRequestSchema,
  RangeResponseSchema,
  type ResponseOp,
  TxnRequestSchema,
  TxnResponseSchema,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../../../gen/etcd/api/etcdserverpb/rpc_pb.js";
import { Event_EventType, type KeyValue } from "../../../gen/etcd/api/mvccpb/kv_pb.js";
import type { GrpcStatus } from "../../grpc/wire/status.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import type { StoreChange, StoreCondition, StoreItem, StorePage, StoreWrite, TransactResult } from "../control/store.ts";

/** Paths of etcd's methods. */
export const ETCD_METHODS = {
  range: "/etcdserverpb.KV/Range",
  transact: "/etcdserverpb.KV/Txn",
  compact: "/etcdserverpb.KV/Compact",
  watch: "/etcdserverpb.Watch/Watch",
  authenticate: "/etcdserverpb.Auth/Authenticate",
} as const;

/** The status with which etcd ends other requests for a revision that was compacted. */
const COMPACTED: GrpcStatus = { code: CODES.OUT_OF_RANGE, message: "etcdserver: mvcc: required revision has been compacted" };

/** A part of a list. */
export interface PageRange {
  /** The key after which the page starts. */
  readonly after: string;
  readonly limit: number;
  /** The revision that the page shows. 0 for the current one. */
  readonly revision: number;
}

/** One message of a watch. */
export interface WatchMessage {
  /** In the order of the messages, by version. */
  readonly changes: readonly StoreChange[];
  /** Whether more changes of the last version may follow. */
  readonly isPartial: boolean;
  /** Why etcd ended the watch. Undefined if it continues. */
  readonly canceled: GrpcStatus | undefined;
}

/** Encodes and decodes for one prefix, which has at least one character. */
export class EtcdCodec {
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  itemRequest(key: string): Uint8Array {
    return encoded(RangeRequestSchema, { key: this.#bytesOf(key) });
  }

  readItem(bytes: Uint8Array): StoreItem | undefined {
    const [item] = decoded(RangeResponseSchema, bytes).kvs;
    return item && this.#itemOf(item);
  }

  pageRequest(prefix: string, { after, limit, revision }: PageRange): Uint8Array {
    const { key, rangeEnd } = this.#rangeOf(prefix);
    const next = this.#bytesOf(`${after}\0`);
    const start = after === "" || Buffer.compare(key, next) > 0 ? key : next;
    return encoded(RangeRequestSchema, { key: start, rangeEnd, limit: BigInt(limit), revision: BigInt(revision) });
  }

  /** Decodes the page after the key `after`. */
  readPage(bytes: Uint8Array, after: string): StorePage {
    const { header, kvs, more } = decoded(RangeResponseSchema, bytes);
    const items = kvs.map((each) => this.#itemOf(each));
    const last = items.at(-1)?.key ?? "";
    if (more && last <= after)
      throw new WaymarkError(
        "store_unavailable",
        "invalid answer: etcd has more items, but the page has no later key; check that store.endpoints names members of etcd",
      );
    return { items, revision: revisionOf(header?.revision), nextAfter: more ? last : undefined };
  }

  /** Encodes a transaction that returns the versions of the items in the conditions if one of them does not hold. */
  transactRequest(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): Uint8Array {
    const compare = conditions.map(({ key, version }) => ({
      result: Compare_CompareResult.EQUAL,
      target: Compare_CompareTarget.MOD,
      key: this.#bytesOf(key),
      targetUnion: { case: "modRevision" as const, value: BigInt(version) },
    }));
    const success = changes.map(({ key, value }) => ({
      request:
        value === undefined
          ? { case: "requestDeleteRange" as const, value: { key: this.#bytesOf(key) } }
          : { case: "requestPut" as const, value: { key: this.#bytesOf(key), value } },
    }));
    const failure = conditions.map(({ key }) => ({
      request: { case: "requestRange" as const, value: { key: this.#bytesOf(key), keysOnly: true } },
    }));
    return encoded(TxnRequestSchema, { compare, success, failure });
  }

  readTransact(bytes: Uint8Array): TransactResult {
    const { header, succeeded: isCommitted, responses } = decoded(TxnResponseSchema, bytes);
    const revision = revisionOf(header?.revision);
    return { isCommitted, revision, versions: responses.map(({ response }) => versionAfter(response, revision)) };
  }

  compactRequest(revision: number): Uint8Array {
    return encoded(CompactionRequestSchema, { revision: BigInt(revision) });
  }

  /**
   * Encodes a request for the changes from a revision. To miss no removal after a revision, a watch must start at this revision: etcd accepts a watch
   * that starts at the compacted revision, although it has forgotten the removals at this revision (etcd-io/etcd#18089).
   */
  watchRequest(prefix: string, fromRevision: number): Uint8Array {
    const value = { ...this.#rangeOf(prefix), startRevision: BigInt(fromRevision), fragment: true };
    return encoded(WatchRequestSchema, { requestUnion: { case: "createRequest", value } });
  }

  readWatch(bytes: Uint8Array): WatchMessage {
    const { canceled, cancelReason, compactRevision, events, fragment } = decoded(WatchResponseSchema, bytes);
    const changes = events.flatMap(({ type, kv }) => (kv === undefined ? [] : [this.#changeOf(kv, type === Event_EventType.DELETE)]));
    const status =
      compactRevision > 0n ? COMPACTED : { code: CODES.UNAVAILABLE, message: cancelReason === "" ? "etcd ended the watch" : cancelReason };
    return { changes, isPartial: fragment, canceled: canceled ? status : undefined };
  }

  #bytesOf(key: string): Buffer {
    return Buffer.from(this.#prefix + key, "latin1");
  }

  /** The range of all keys that start with a prefix. The last byte of the prefix is below 255, so the range ends at the next byte. */
  #rangeOf(prefix: string) {
    const key = this.#bytesOf(prefix);
    const rangeEnd = Buffer.from(key);
    rangeEnd.writeUInt8(key.readUInt8(key.length - 1) + 1, key.length - 1);
    return { key, rangeEnd };
  }

  #itemOf({ key, value, modRevision }: KeyValue): StoreItem {
    const text = Buffer.from(key.buffer, key.byteOffset, key.length).toString("latin1");
    // The value is copied, because otherwise it would keep the whole answer in memory.
    return { key: text.slice(this.#prefix.length), value: new Uint8Array(value), version: revisionOf(modRevision) };
  }

  #changeOf(kv: KeyValue, isRemoval: boolean): StoreChange {
    const item = this.#itemOf(kv);
    return { key: item.key, version: item.version, item: isRemoval ? undefined : item };
  }
}

/** The version in the answer to one operation of a transaction, which has this revision. 0 if there is no item. */
function versionAfter(response: ResponseOp["response"], revision: number): number {
  if (response.case === "responsePut") return revision;
  if (response.case === "responseDeleteRange") return response.value.deleted > 0n ? revision : 0;
  const [item] = response.case === "responseRange" ? response.value.kvs : [];
  return item === undefined ? 0 : revisionOf(item.modRevision);
}

/** Throws `store_unavailable` for a number below 1 or above `Number.MAX_SAFE_INTEGER`. */
function revisionOf(number = 0n): number {
  if (number < 1n || number > Number.MAX_SAFE_INTEGER)
    throw new WaymarkError("store_unavailable", `invalid answer: revision ${number}; check that store.endpoints names members of etcd`);
  return Number(number);
}

export function authenticateRequest(name: string, password: string): Uint8Array {
  return encoded(AuthenticateRequestSchema, { name, password });
}

export function readAuthToken(bytes: Uint8Array): string {
  const { token } = decoded(AuthenticateResponseSchema, bytes);
  if (!/^[\x21-\x7e]{1,8192}$/.test(token)) throw new WaymarkError("store_unavailable", "the answer of etcd has no valid token");
  return token;
}

function encoded<D extends DescMessage>(schema: D, fields: MessageInitShape<D>): Uint8Array {
  return toBinary(schema, create(schema, fields));
}

function decoded<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    throw new WaymarkError("store_unavailable", `the answer of etcd is not a valid ${schema.name}`, { cause });
  }
}
