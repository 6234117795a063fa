/** What the records of the summary replica say, and how a node puts one (docs/design/summaries.md, Bytes). */
import type { StoredEntry } from "../catalog/entry/codec.ts";
import { SCOPE } from "../catalog/entry/scope.ts";
import { BODY, HEALTH, KIND, type SharedTraits } from "../catalog/record/record.ts";
import type { StoredRecord } from "../catalog/record/stored-record.ts";
import { NO_TRAITS, sameFilter } from "../catalog/record/traits.ts";
import type { EntryReader } from "../catalog/replica/frames.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { tableSlot } from "../lib/hash64.ts";
import { decodeRecord, encodeRecord, type Opened } from "./codec.ts";
import { announcementKey, BEACON_NAMESPACE, beaconKey, recordKey } from "./keys.ts";

/** Places for namespaces and names, which the summaries of several clusters have in common. A map of as many took 460 KB, and this takes 130. */
const SHARED = 16_384;
/** More clusters than any node takes summaries of. */
const MAX_CLUSTERS = 1_024;

export class SummaryStamper implements EntryReader {
  readonly isSealed = true;
  readonly #regionOf: (cluster: string) => string | undefined;
  readonly #texts = new SharedTexts(SHARED);
  readonly #traits = new Map<string, SharedTraits>();

  /** `regionOf`: the region of a cluster by the settings, since nobody believes what a message says of it. */
  constructor(regionOf: (cluster: string) => string | undefined) {
    this.#regionOf = regionOf;
  }

  /** Reads the bytes of a record. Throws `invalid_argument` for what no node may have put. */
  entryOfStored(bytes: Uint8Array): StoredEntry {
    return this.#entryOf(decodeRecord(bytes), bytes);
  }

  /** Stages a put of what was taken or made here. Its stamp is its version, so of all that is held of its key the highest version is seen. */
  stage(replica: Pick<Replica, "own" | "stagePut">, of: Opened): StoredRecord {
    const bytes = encodeRecord(of.what, of.sealed);
    const { version: hlc = 0, load: _, content, ...entry } = this.#entryOf(of, bytes);
    const before = replica.own(entry.key);
    const isFilterChange = before?.body !== BODY.ENTRY || !sameFilter(before, entry);
    return replica.stagePut({ ...entry, hlc, bytes: content, principal: "", isFilterChange });
  }

  #entryOf(of: Opened, content: Uint8Array): StoredEntry {
    return { ...this.#factsOf(of), hasAliases: false, hasChecks: false, load: undefined, content, contentBytes: content.length };
  }

  #factsOf(of: Opened) {
    switch (of.what) {
      case "summary": {
        const { kind, namespace, serviceId, channel, band, source, version } = of.summary;
        const names = { namespace: this.#texts.text(namespace), name: this.#texts.text(serviceId) };
        return { key: recordKey(of.summary), kind, ...names, scope: channel, health: band, traits: this.#traitsOf(source), version };
      }
      case "beacon": {
        const { source, version } = of.beacon;
        return { key: beaconKey(source), ...this.#ofCluster(source), version };
      }
      case "key": {
        const { cluster, keyId, signedBy, notBeforeWallMs } = of.key;
        return { key: announcementKey(cluster, keyId, signedBy), ...this.#ofCluster(cluster), version: notBeforeWallMs };
      }
    }
  }

  #ofCluster(cluster: string) {
    const traits = this.#traitsOf(cluster);
    const { clusterId: name } = traits;
    return { kind: KIND.NODE, namespace: BEACON_NAMESPACE, name, scope: SCOPE.GLOBAL, health: HEALTH.UNSET, traits };
  }

  #traitsOf(cluster: string): SharedTraits {
    const region = this.#regionOf(cluster) ?? "";
    const known = this.#traits.get(cluster);
    if (known?.region === region) return known;
    if (this.#traits.size >= MAX_CLUSTERS) this.#traits.clear();
    const traits = { ...NO_TRAITS, clusterId: cluster, region };
    this.#traits.set(cluster, traits);
    return traits;
  }
}

// Shares texts that records have in common, in a table of fixed size. Sharing only saves memory, so of two texts with one place the newer stays.

export class SharedTexts {
  readonly #texts: (string | undefined)[];

  /** `places`: a power of two. */
  constructor(places: number) {
    this.#texts = new Array<string | undefined>(places).fill(undefined);
  }

  /** The copy of the text that was given last, or else this one. */
  text(text: string): string {
    const { place } = tableSlot(text, this.#texts.length);
    const known = this.#texts[place];
    if (known === text) return known;
    this.#texts[place] = text;
    return text;
  }
}
