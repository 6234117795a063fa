/** Judges whether seals count: their region, their time and their signature (docs/design/summaries.md, Taking). */

import { BODY } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Time } from "../../lib/machine.ts";
import { CONTEXT } from "../../signing/signer.ts";
import type { Opened } from "../codec.ts";
import type { Sealed, SummaryRefusal } from "../summary.ts";
import type { HeldOptions, HeldParts, Via } from "./options.ts";
import { type Claims, claimsOf, openRecord } from "./seals.ts";

export class Judge {
  readonly #options: HeldOptions;
  readonly #keys: HeldParts["keys"];
  /** The regions of clusters of which what is not signed may count. */
  readonly #unsigned: ReadonlyMap<string, string>;

  constructor(options: HeldOptions, { keys }: Pick<HeldParts, "keys">) {
    this.#options = options;
    this.#keys = keys;
    const { neighbours = [], requireSignatures } = options;
    this.#unsigned = new Map(requireSignatures ? [] : neighbours.map((border) => [border.clusterId, border.region]));
  }

  /** The region of a source as the settings have it; undefined if they do not know the source. */
  regionOf(source: string, via?: Via): string | undefined {
    const { clusterId, region } = this.#options;
    if (source === clusterId) return region;
    return this.#keys.regionOf(source) ?? this.#unsigned.get(source) ?? (via?.cluster === source ? via.region : undefined);
  }

  /** The regions of all sources that the settings know, without this one. */
  get otherRegions(): ReadonlySet<string> {
    const regions = new Set([...this.#keys.allRegions(), ...this.#unsigned.values()]);
    regions.delete(this.#options.region);
    return regions;
  }

  /**
   * Whether what others say of the source counts without a signature. Never of a source with a key in the settings: anybody could take its place. Nor of our own
   * cluster, which each of its nodes speaks for by itself.
   */
  #mayBeUnsigned(source: string): boolean {
    const { requireSignatures, neighbours, clusterId } = this.#options;
    if (requireSignatures || source === clusterId || this.#keys.hasKeys(source)) return false;
    return neighbours === undefined || this.#unsigned.has(source);
  }

  /** Why its place does not count. Cheap, so it is asked before the signature. */
  whyNotPlace({ source, regions }: Claims, via?: Via): SummaryRefusal | undefined {
    const region = this.regionOf(source, via);
    if (region === undefined) return this.#mayBeUnsigned(source) ? undefined : "unknown_key";
    return regions.every((each) => each === region) ? undefined : "not_owner";
  }

  /** Why its time does not count. Only what is new to the region is asked. */
  whyNotTime(generatedWallMs: number, { wallMs }: Time): "stale" | "future" | undefined {
    const { maxClockSkewMs } = this.#options;
    if (generatedWallMs > wallMs + maxClockSkewMs) return "future";
    return generatedWallMs < wallMs - maxClockSkewMs ? "stale" : undefined;
  }

  /** Why its signature does not count. HOT: some 0.1 ms. */
  whyNotSigned(what: Opened["what"], { source, keyId }: Claims, sealed: Sealed, time: Time): SummaryRefusal | undefined {
    if (what === "key") return this.#keys.announce(sealed, time);
    const { signed, signature } = sealed;
    if (signature.length === 0) return this.#mayBeUnsigned(source) ? undefined : "unsigned";
    const context = what === "summary" ? CONTEXT.SUMMARY : CONTEXT.BEACON;
    return this.#keys.refusal(source, keyId, context, signed, signature, time.wallMs);
  }

  /**
   * Whether the key of a proven record counts no more, or the settings have its cluster in another region. The id of a key is that of its bytes, so the signature
   * itself stays good.
   */
  isRefusedNow(bytes: Uint8Array, time: Time): boolean {
    const content = openRecord(bytes);
    if (content === undefined) return true;
    const claims = claimsOf(content);
    if (this.whyNotPlace(claims) !== undefined) return true;
    return this.isGone(claims.source, content.sealed.signature.length === 0 ? "" : claims.keyId, time);
  }

  /** Whether a key of a source counts now; the empty one is that of what is not signed. */
  isGone(source: string, keyId: string, { wallMs }: Time): boolean {
    return keyId === "" ? !this.#mayBeUnsigned(source) : !this.#keys.counts(source, keyId, wallMs);
  }

  /** What a record is worth that came from a node of the region, and its content if it counts. */
  look(bytes: Uint8Array, time: Time): { readonly finding: number; readonly content?: Opened } {
    const content = openRecord(bytes);
    if (content === undefined) return { finding: FINDING.LOOKED };
    const claims = claimsOf(content);
    if (this.whyNotPlace(claims) !== undefined) return { finding: FINDING.LOOKED };
    if (this.whyNotSigned(content.what, claims, content.sealed, time) !== undefined) return { finding: FINDING.LOOKED };
    return { finding: findingOf(content), content };
  }
}

/** What a proven seal is. */
export function findingOf(content: Opened): number {
  const proven = FINDING.LOOKED | FINDING.PROVEN;
  if (content.what !== "summary") return proven;
  const { withdrawn, noStale, notAfterWallMs } = content.summary;
  return (
    proven | (withdrawn ? FINDING.WITHDRAWN : 0) | (noStale ? FINDING.NO_STALE : 0) | (notAfterWallMs === undefined ? 0 : FINDING.ENDS)
  );
}

// What a node found out about a record of the summary replica, in the bits that `StoredRecord.finding` holds.

export const FINDING = {
  /** It was looked at. Alone: it does not count. */
  LOOKED: 1,
  /** A key of its source that counts signed it. */
  PROVEN: 2,
  WITHDRAWN: 4,
  /** It is not shown once its source is lost. */
  NO_STALE: 8,
  /** It has a `not_after`. */
  ENDS: 16,
} as const;

export function isProven({ body, finding }: StoredRecord): boolean {
  return body === BODY.ENTRY && (finding & FINDING.PROVEN) !== 0;
}

export function isWithdrawn({ finding }: StoredRecord): boolean {
  return (finding & FINDING.WITHDRAWN) !== 0;
}

/** Whether nobody looked at it yet. */
export function isUnseen({ body, finding }: StoredRecord): boolean {
  return body === BODY.ENTRY && finding === 0;
}
