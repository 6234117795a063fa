/**
 * Signs the plans of answers, at the time of the question (semantics.md, DNS): each set once with its plan, and the SOA once a version of the zone. How many fresh signatures
 * are made a second is bounded.
 */
import { zoneAbove, zoneOf } from "../names/names.ts";
import { labelsOf } from "../names/wire-names.ts";
import type { AnswerPlan } from "../plan/answer.ts";
import { CanonicalWriter, canonicalSet } from "../records/canonical.ts";
import { ALGORITHM, SIGNATURE_BYTES } from "../records/dnssec.ts";
import type { DnsRecord, DnsSettings, RecordOf, SignatureData, ZoneKey } from "../records/record.ts";
import { RECORDS, writeRecordData } from "../records/records.ts";

/** The keys, with their secrets. */
export interface ZoneSigningKeys {
  /** One or two. The first signs everything, the second only the sets that tell the keys. */
  readonly keys: readonly ZoneKey[];
  /** Changes with the keys. */
  readonly version: number;
  /** The signature of the key with this index (RFC 6605, 4). */
  sign(index: number, data: Uint8Array): Uint8Array;
}

export interface ZoneSignerOptions {
  readonly keys: ZoneSigningKeys;
  readonly now: () => { readonly monoMs: number; readonly wallMs: number };
}

/** Most fresh signatures a second. One takes some 40 µs. */
const SIGNATURES_PER_SECOND = 5000;
/** What of these is left for questions over TCP, whose senders are not forged: so those who were told to use it find an answer. */
const KEPT_FOR_TCP = 1000;
const HOUR_SECONDS = 3600;
const DAY_SECONDS = 24 * HOUR_SECONDS;
/** So far back a signature is valid, for clocks that go after. */
const BEGINS_BEFORE_SECONDS = HOUR_SECONDS;
/** Longer than a plan is kept and an answer may be cached after that, by days. */
const VALID_SECONDS = 7 * DAY_SECONDS;
/** A signature is made anew after this time, or when the clock was set back by half of what it is valid before. */
const KEPT_MS = DAY_SECONDS * 1000;
const MOST_BACK_MS = (BEGINS_BEFORE_SECONDS * 1000) / 2;
/** Signatures of SOA that are kept: one for a zone and its serial. */
const MAX_SOA_SIGNATURES = 512;
/** Sets that tell the keys: each key signs them, because a parent may name either. */
const KEY_TYPES: ReadonlySet<DnsRecord["type"]> = new Set(["DNSKEY", "CDS", "CDNSKEY"]);

/** No more signatures can be made now. */
export class SignerBusyError extends Error {
  constructor() {
    super("no more signatures are made in this second");
  }
}

export class ZoneSigner {
  readonly #keys: ZoneSigningKeys;
  readonly #now: ZoneSignerOptions["now"];
  readonly #soaSignatures = new Map<string, { readonly sinceMs: number; readonly bytes: Uint8Array }>();
  /** In this second. */
  #count = 0;
  #secondMs = Number.NEGATIVE_INFINITY;
  #most = SIGNATURES_PER_SECOND;
  #soaVersion = -1;
  /** Signatures so far. */
  madeCount = 0;
  /** Signatures that were refused because too many were made. */
  refusedCount = 0;

  constructor({ keys, now }: ZoneSignerOptions) {
    this.#keys = keys;
    this.#now = now;
  }

  /** Changes with the keys. */
  get version(): number {
    return this.#keys.version;
  }

  get keys(): readonly ZoneKey[] {
    return this.#keys.keys;
  }

  /** What is signed next is for a question over UDP or not. */
  begin(isUdp: boolean): void {
    this.#most = isUdp ? SIGNATURES_PER_SECOND - KEPT_FOR_TCP : SIGNATURES_PER_SECOND;
  }

  /** Whether signatures from this time may still be given. */
  isFresh(sinceMs: number): boolean {
    const ageMs = this.#now().wallMs - sinceMs;
    return ageMs < KEPT_MS && ageMs >= -MOST_BACK_MS;
  }

  /** The plan with signatures of all its sets but SOA, without additional records. Throws `SignerBusyError`. What is only a part of a set is not signed. */
  sign(plan: AnswerPlan, type: number, settings: Pick<DnsSettings, "reverseZones" | "zones">): AnswerPlan {
    const { wallMs } = this.#now();
    const zones = [...settings.zones, ...settings.reverseZones];
    const signerOf = ({ name, type: of }: DnsRecord) => (of === "DS" ? zoneAbove(name, zones) : zoneOf(name, zones));
    if (plan.isCut === true) return { ...plan, glue: new Map(), signed: { sinceMs: wallMs, soa: undefined } };
    const all = this.#signed(plan.groups, signerOf);
    // Who asks for signatures is not told what they sign.
    const groups = type === RECORDS.RRSIG.code ? all.filter(([first]) => first?.type !== "NSEC") : all;
    const authority = this.#signed(
      plan.authority.map((record) => [record]),
      signerOf,
    ).flat();
    const soa = [...groups.flat(), ...authority].find((record) => record.type === "SOA");
    return { ...plan, groups, authority, glue: new Map(), signed: { sinceMs: wallMs, soa } };
  }

  /** The data of the signature of a SOA record with this serial. Throws `SignerBusyError`. */
  soaSignature(soa: RecordOf<"SOA">, serial: number): Uint8Array {
    if (this.#soaVersion !== this.#keys.version) this.#soaSignatures.clear();
    this.#soaVersion = this.#keys.version;
    const key = `${soa.name} ${serial} ${soa.data.minimumSeconds} ${soa.ttlSeconds}`;
    const kept = this.#soaSignatures.get(key);
    if (kept !== undefined && this.isFresh(kept.sinceMs)) return kept.bytes;
    const [signature] = this.#signatures([{ ...soa, data: { ...soa.data, serial } }], soa.name);
    const out = new CanonicalWriter(false);
    if (signature !== undefined) writeRecordData(signature, out);
    const bytes = out.taken();
    if (this.#soaSignatures.size >= MAX_SOA_SIGNATURES) this.#soaSignatures.clear();
    this.#soaSignatures.set(key, { sinceMs: this.#now().wallMs, bytes });
    return bytes;
  }

  /** The groups, with the signatures of each set behind it. Those of another plan may be there already. */
  #signed(groups: AnswerPlan["groups"], signerOf: (record: DnsRecord) => string | undefined): (readonly DnsRecord[])[] {
    const records = groups.flat();
    const covered = new Set(records.flatMap((record) => (record.type === "RRSIG" ? [`${record.name} ${record.data.covered}`] : [])));
    const sets = Map.groupBy(records, setOf);
    return groups.flatMap((group, i) => {
      const [first] = group;
      if (first === undefined || first.type === "SOA" || first.type === "RRSIG") return [group];
      const set = setOf(first);
      const zone = signerOf(first);
      const isLast = !groups.slice(i + 1).some(([other]) => other !== undefined && setOf(other) === set);
      if (covered.has(set) || zone === undefined || !isLast) return [group];
      return [group, ...this.#signatures(sets.get(set) ?? [], zone).map((signature) => [signature])];
    });
  }

  #signatures(set: readonly DnsRecord[], zone: string): readonly RecordOf<"RRSIG">[] {
    const [first] = set;
    if (first === undefined) return [];
    const keys = KEY_TYPES.has(first.type) ? this.#keys.keys : this.#keys.keys.slice(0, 1);
    return keys.map(({ keyTag }, index) => {
      this.#take();
      const { wallMs } = this.#now();
      const nowSeconds = Math.floor(wallMs / 1000);
      const { name, ttlSeconds, type } = first;
      const { code, isFolded = false } = RECORDS[type];
      const data: SignatureData = {
        covered: code,
        algorithm: ALGORITHM,
        labelCount: labelCountOf(name),
        originalTtlSeconds: ttlSeconds,
        // Serial numbers (RFC 4034, 3.1.5).
        expiresSeconds: (nowSeconds + VALID_SECONDS) >>> 0,
        beginsSeconds: (nowSeconds - BEGINS_BEFORE_SECONDS) >>> 0,
        keyTag,
        signer: zone,
        signature: NO_BYTES,
      };
      const head = new CanonicalWriter(false);
      RECORDS.RRSIG.write(data, head);
      const records = canonicalSet({ name, ttlSeconds, code, isFolded }, set, writeRecordData);
      const signature = this.#keys.sign(index, Buffer.concat([head.taken(), records]));
      if (signature.length !== SIGNATURE_BYTES) throw new RangeError(`a signature has ${signature.length} bytes`);
      this.madeCount += 1;
      return { type: "RRSIG", name, ttlSeconds, data: { ...data, signature } };
    });
  }

  #take(): void {
    const { monoMs } = this.#now();
    if (monoMs >= this.#secondMs + 1000) {
      this.#secondMs = monoMs;
      this.#count = 0;
    }
    if (this.#count >= this.#most) {
      this.refusedCount += 1;
      throw new SignerBusyError();
    }
    this.#count += 1;
  }
}

const NO_BYTES = new Uint8Array();
const ASTERISK = 0x2a;

/** Without the label of a wildcard (RFC 4034, 3.1.3): no name is one here, but such a name can be asked for. */
function labelCountOf(name: string): number {
  const [first, ...others] = labelsOf(name);
  return first === undefined || (first.length === 1 && first[0] === ASTERISK) ? others.length : others.length + 1;
}

/** Names the set of a record: its name and the number of its type. */
function setOf({ name, type }: DnsRecord): string {
  return `${name} ${RECORDS[type].code}`;
}
