/** Numbers and signs what this cluster says: its summaries and beacons (docs/design/summaries.md, Taking). */
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { KeyText } from "../../catalog/record/record.ts";
import { assert } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { type ClusterSigner, CONTEXT, opaqueTag, type SignatureContext } from "../../signing/signer.ts";
import { encodeBeacon, encodeSummary, fitting } from "../codec.ts";
import { beaconKey, recordKey, summaryKeyOf } from "../keys.ts";
import {
  BAND,
  channelTtlMs,
  type IngressNode,
  MAX_VERSION,
  type SaidUnder,
  type Sealed,
  type SummaryFacts,
  type SummaryKey,
  type Withdrawal,
} from "../summary.ts";
import type { Echoes } from "./echoes.ts";
import { isWithdrawn } from "./judge.ts";
import type { Keeping } from "./keeping.ts";
import { type Fact, Known } from "./known.ts";
import { Unsaid } from "./unsaid.ts";

/** Withdrawals in a beacon. */
const MAX_WITHDRAWALS = 100;
const NONE = new Known();
const UNSIGNED = new Uint8Array(0);

export class Saying {
  readonly unsaid = new Unsaid();
  readonly #keeping: Keeping;
  readonly #echoes: Echoes;
  readonly #signer: ClusterSigner | undefined;
  /** The withdrawals of this cluster, in turn. */
  #turn: Iterator<readonly [KeyText, Fact]> | undefined;

  constructor(keeping: Keeping, echoes: Echoes, signer: ClusterSigner | undefined) {
    this.#keeping = keeping;
    this.#echoes = echoes;
    this.#signer = signer;
  }

  /** Of the key with which this node signs now; empty without one. */
  get keyId(): string {
    return this.#signer?.keyId ?? "";
  }

  /** Returns the version; undefined if this node cannot sign (a cluster says nothing without a signature), or if nobody would take it. */
  export(facts: SummaryFacts, time: Time): number | undefined {
    const { clusterId, ttlMs } = this.#keeping.options;
    assert(facts.source === clusterId, "the source of an exported summary is another cluster", { source: facts.source });
    const key = recordKey(facts);
    const tag = this.#tagOf(key, time);
    const made = this.#made(key, tag, time);
    if (made === undefined) return undefined;
    const summary = { ...facts, ...made, tag, ttlMs: channelTtlMs(ttlMs, facts.channel) };
    const signed = this.unsaid.encoded(key, () => encodeSummary(summary), time);
    if (signed === undefined) return undefined;
    this.#keeping.makeRoom(clusterId, this.#keeping.isNew(key, clusterId), time);
    this.#keeping.put({ what: "summary", summary, sealed: this.#seal(CONTEXT.SUMMARY, signed) }, time);
    return made.version;
  }

  /** Says again what this cluster says of a key, above all that is known of it. */
  restate(key: SummaryKey, time: Time): number | undefined {
    const summary = this.#keeping.summaryOf(key, time);
    return summary === undefined ? undefined : this.export(summary, time);
  }

  /** Says of a key of which nothing is held here that it is gone. */
  takeBack(key: SummaryKey, under: SaidUnder, time: Time): number | undefined {
    const nothing = { regions: [], endpointCount: 0, band: BAND.CRITICAL, latency: { minMs: 0, maxMs: 0 }, notAfterWallMs: undefined };
    return this.export({ ...key, ...under, ...nothing, withdrawn: true }, time);
  }

  /** Returns the version; undefined if this node cannot sign, or if nobody would take it. */
  makeBeacon(ingress: readonly IngressNode[], time: Time): number | undefined {
    const { clusterId: source, region, ttlMs } = this.#keeping.options;
    const key = beaconKey(source);
    const made = this.#made(key, 0n, time);
    if (made === undefined) return undefined;
    const beacon = fitting({ source, region, ...made, ttlMs, ingress, withdrawals: this.#withdrawalsInTurn() });
    const signed = this.unsaid.encoded(key, () => encodeBeacon(beacon), time);
    if (signed === undefined) return undefined;
    this.#keeping.put({ what: "beacon", beacon, sealed: this.#seal(CONTEXT.BEACON, signed) }, time);
    return made.version;
  }

  /** What this node adds. Undefined if it cannot sign, or if no version is left. */
  #made(key: KeyText, tag: bigint, time: Time) {
    const { nodeId: exporter } = this.#keeping.options;
    const known = Math.max(this.#keeping.highest(key, tag, time), this.#echoes.versionOf(key));
    const version = known === 0 ? Math.max(1, Math.floor(time.wallMs / 1000)) : known + 1;
    if (this.#signer === undefined || version > MAX_VERSION) return undefined;
    return { version, exporter, keyId: this.keyId, generatedWallMs: time.wallMs };
  }

  /** The tag under which the key is known, so that a beacon under a later key still names what was said under an earlier one. */
  #tagOf(key: KeyText, time: Time): bigint {
    this.#keeping.settle(key, time);
    const best = this.#keeping.best(key);
    return best === undefined ? (this.#echoes.tagOf(key) ?? opaqueTag(this.#signer, key)) : this.#keeping.tagOf(best);
  }

  #seal(context: SignatureContext, signed: Uint8Array): Sealed {
    return { signed, signature: this.#signer?.sign(context, signed) ?? UNSIGNED, hops: 0 };
  }

  /** Those on channel GLOBAL, because other regions hear the beacon. */
  #withdrawalsInTurn(): readonly Withdrawal[] {
    const withdrawals: Withdrawal[] = [];
    const { sources, options } = this.#keeping;
    const keys = sources.find(options.clusterId)?.keys ?? NONE;
    for (let looked = 0; looked < keys.size && withdrawals.length < MAX_WITHDRAWALS; looked++) {
      this.#turn ??= keys.entries();
      let next = this.#turn.next();
      if (next.done === true) {
        this.#turn = keys.entries();
        next = this.#turn.next();
      }
      if (next.done === true) break;
      const withdrawal = this.#withdrawalOf(next.value);
      if (withdrawal !== undefined) withdrawals.push(withdrawal);
    }
    return withdrawals;
  }

  #withdrawalOf([key, { version, tag }]: readonly [KeyText, Fact]): Withdrawal | undefined {
    const best = version < 0 ? this.#keeping.best(key) : undefined;
    if (best === undefined || !isWithdrawn(best) || summaryKeyOf(key)?.channel !== SCOPE.GLOBAL) return undefined;
    return { tag, version: best.hlc };
  }
}
