/**
 * Builds the summaries in answers from the bytes that their clusters signed, without encoding them again. The fields that this node sets follow the
 * signed bytes, because in protobuf the last value of a field wins. Signed bytes therefore can neither set their freshness nor contain
 * another signature.
 */
import {
  HEARD_CLUSTER_TAG as HEARD,
  SERVICE_SUMMARY_TAG as ITEM,
  SUMMARY_QUERY_RESPONSE_TAG as QUERY,
  SUMMARY_WATCH_RESPONSE_TAG as WATCH,
} from "../../../gen/waymark/discovery/v1/summary_tags.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import {
  closeLength,
  openLength,
  tagOf,
  textsRoom,
  timeOf,
  WIRE,
  writeBytesField,
  writeNumberField,
  writeText,
  writeTextField,
  writeTexts,
  writeTimeField,
  writeVarint,
} from "../../lib/protowire.ts";
import { sealedOf } from "../../summary/codec.ts";
import type { SourceAge } from "../../summary/held/options.ts";
import { type DeltaPayload, type QueryAnswer, type ResolvedMark, unreachableRoom, writeUnreachable } from "./response-bytes.ts";

/** Largest number of bytes that an item adds to the signed bytes. */
const ITEM_ROOM = 48;
/** Largest size of an answer in bytes, without items, ingress URLs and texts. */
const QUERY_ROOM = 256;
const NOT_RESOLVED: ResolvedMark = { policyEpoch: "", via: [] };
/** Tags for the key and the value of a map entry, and for the field of `IngressUrls`. */
const [KEY_TAG, VALUE_TAG, URLS_TAG] = [tagOf(1, WIRE.BYTES), tagOf(2, WIRE.BYTES), tagOf(1, WIRE.BYTES)];

export class SummaryItems implements DeltaPayload {
  readonly #slab: Slab;
  readonly #isStale: (record: CatalogRecord) => boolean;

  constructor(slab: Slab, isStale: (record: CatalogRecord) => boolean) {
    this.#slab = slab;
    this.#isStale = isStale;
  }

  /** An item contains the signed bytes twice: as its fields, and as the bytes that the signature covers. */
  room({ sizeBytes }: CatalogRecord): number {
    return 2 * sizeBytes + ITEM_ROOM;
  }

  write(out: Uint8Array, tagged: number, record: CatalogRecord): number {
    const { signed, signature } = sealedOf(this.#slab.view(record.at, record.sizeBytes));
    const start = openLength(tagged);
    out.set(signed, start);
    let at = writeBytesField(out, start + signed.length, ITEM.signature, signature);
    at = writeVarint(out, writeVarint(out, at, ITEM.stale), this.#isStale(record) ? 1 : 0);
    return closeLength(out, start, writeBytesField(out, at, ITEM.signedBytes, signed));
  }

  /** Writes the record in its stored form: a summary, beacon or announcement with its signature. */
  writeSealed(out: Uint8Array, tagged: number, { at, sizeBytes }: CatalogRecord): number {
    return this.#slab.copyTo(at, sizeBytes, out, writeVarint(out, tagged, sizeBytes));
  }
}

/** Encodes the `heard` fields of a watch message, which contain the ages of the clusters' last beacons. */
export function heardBytes(ages: readonly SourceAge[]): Uint8Array {
  let room = 0;
  for (const { source } of ages) room += textsRoom([source]) + ITEM_ROOM;
  const out = new Uint8Array(room);
  let at = 0;
  for (const { source, version, ageMs } of ages) {
    const start = openLength(writeVarint(out, at, WATCH.heard));
    at = writeNumberField(out, writeTextField(out, start, HEARD.sourceCluster, source), HEARD.version, version);
    at = closeLength(out, start, writeTimeField(out, at, HEARD.age, timeOf(Math.ceil(ageMs))));
  }
  return out.subarray(0, at);
}

export interface SummaryAnswer extends Omit<QueryAnswer, "cursor" | "explanations"> {
  /** URLs by source cluster. */
  readonly ingress: ReadonlyMap<string, readonly string[]>;
}

export function summaryAnswer(items: SummaryItems, answer: SummaryAnswer): Uint8Array {
  const { records, ingress, nextToken, servedBy, age } = answer;
  const { policyEpoch, via } = answer.resolved ?? NOT_RESOLVED;
  let room = QUERY_ROOM + textsRoom([nextToken, servedBy, policyEpoch, ...via]) + unreachableRoom(age.unreachable);
  for (const record of records) room += items.room(record);
  for (const [source, urls] of ingress) room += textsRoom([source, ...urls]) + ITEM_ROOM;
  const out = new Uint8Array(room);
  let at = 0;
  for (const record of records) at = items.write(out, writeVarint(out, at, QUERY.items), record);
  for (const [source, urls] of ingress) at = writeIngress(out, at, source, urls);
  at = writeTextField(out, at, QUERY.nextPageToken, nextToken);
  at = writeTimeField(out, at, QUERY.generatedAt, timeOf(answer.generatedWallMs));
  at = writeText(out, writeVarint(out, at, QUERY.servedBy), servedBy);
  at = writeNumberField(out, at, QUERY.revision, answer.revision);
  at = writeTimeField(out, at, QUERY.age, timeOf(age.ageMs));
  at = writeNumberField(out, at, QUERY.stale, age.isStale ? 1 : 0);
  at = writeNumberField(out, at, QUERY.source, age.source);
  at = writeUnreachable(out, at, QUERY.unreachableNodes, age.unreachable);
  at = writeTexts(out, writeTextField(out, at, QUERY.policyEpoch, policyEpoch), QUERY.via, via);
  return out.subarray(0, at);
}

function writeIngress(out: Uint8Array, start: number, source: string, urls: readonly string[]): number {
  const body = openLength(writeVarint(out, start, QUERY.ingress));
  const at = writeText(out, writeVarint(out, body, KEY_TAG), source);
  const value = openLength(writeVarint(out, at, VALUE_TAG));
  return closeLength(out, body, closeLength(out, value, writeTexts(out, value, URLS_TAG, urls)));
}
