/**
 * Signs plans online when they are built (semantics.md, DNS): each RRset once per plan, and the SOA once per zone serial. The number of new
 * signatures per second is limited.
 */
import { zoneAbove, zoneOf } from "../names/names.ts";
import { labelsOf } from "../names/wire-names.ts";
import type { AnswerPlan } from "../plan/answer.ts";
import { CanonicalWriter, canonicalSet } from "../records/canonical.ts";
import { ALGORITHM, SIGNATURE_BYTES } from "../records/dnssec.ts";
import type { DnsRecord, DnsSettings, RecordOf, SignatureData, ZoneKey } from "../records/record.ts";
import { RECORDS, writeRecordData } from "../records/records.ts";

/** The zone keys, including their private keys. */
export interface ZoneSigningKeys {
  /** One or two keys. The first key signs all RRsets. The second key signs only the RRsets that publish the keys. */
  readonly keys: readonly ZoneKey[];
  /** A version that changes when the keys change. */
  readonly version: number;
  /** Returns a signature made with the key at this index (RFC 6605, 4). */
  sign(index: number, data: Uint8Array): Uint8Array;
}

export interface ZoneSignerOptions {
  readonly keys: ZoneSigningKeys;
  readonly now: () => { readonly monoMs: number; readonly wallMs: number };
}

/** Maximum number of new signatures per second. Each signature needs about 40 µs. */
const SIGNATURES_PER_SECOND = 5000;
/** Number of signatures per second reserved for TCP, so that clients that retry over TCP receive an answer. TCP source addresses cannot be forged. */
const KEPT_FOR_TCP = 1000;
const HOUR_SECONDS = 3600;
const DAY_SECONDS = 24 * HOUR_SECONDS;
/** Signatures become valid this long before they are created, for clients with slow clocks. */
const BEGINS_BEFORE_SECONDS = HOUR_SECONDS;
/** Validity of a signature. It is days longer than plans and answers can stay in caches. */
const VALID_SECONDS = 7 * DAY_SECONDS;
/** A signature is replaced after this time, or when the clock is set back by half of `BEGINS_BEFORE_SECONDS`. */
const KEPT_MS = DAY_SECONDS * 1000;
const MOST_BACK_MS = (BEGINS_BEFORE_SECONDS * 1000) / 2;
/** Maximum number of cached SOA signatures, one per zone and serial. */
const MAX_SOA_SIGNATURES = 512;
/** RRsets that publish the keys. Each key signs them, because the parent zone may reference either key. */
const KEY_TYPES: ReadonlySet<DnsRecord["type"]> = new Set(["DNSKEY", "CDS", "CDNSKEY"]);

/** Thrown when the limit of signatures per second is reached. */
export class SignerBusyError extends Error {
  constructor() {
    super("the limit on DNSSEC signatures per second has been reached");
  }
}

export class ZoneSigner {
  readonly #keys: ZoneSigningKeys;
  readonly #now: ZoneSignerOptions["now"];
  readonly #soaSignatures = new Map<string, { readonly sinceMs: number; readonly bytes: Uint8Array }>();
  /** Number of signatures created in the current second. */
  #count = 0;
  #secondMs = Number.NEGATIVE_INFINITY;
  #most = SIGNATURES_PER_SECOND;
  #soaVersion = -1;
  /** Number of signatures created so far. */
  madeCount = 0;
  /** Number of signatures refused because of the limit. */
  refusedCount = 0;

  constructor({ keys, now }: ZoneSignerOptions) {
    this.#keys = keys;
    this.#now = now;
  }

  /** A version that changes when the keys change. */
  get version(): number {
    return this.#keys.version;
  }

  get keys(): readonly ZoneKey[] {
    return this.#keys.keys;
  }

  /** Sets whether the next signatures are for a question over UDP. */
  begin(isUdp: boolean): void {
    this.#most = isUdp ? SIGNATURES_PER_SECOND - KEPT_FOR_TCP : SIGNATURES_PER_SECOND;
  }

  /** Returns whether signatures created at this time can still be sent. */
  isFresh(sinceMs: number): boolean {
    const ageMs = this.#now().wallMs - sinceMs;
    return ageMs < KEPT_MS && ageMs >= -MOST_BACK_MS;
  }

  /**
   * Returns the plan without additional records and with signatures for all its RRsets except the SOA. An incomplete RRset is not signed. Throws
   * `SignerBusyError`.
   */
  sign(plan: AnswerPlan, type: number, settings: Pick<DnsSettings, "reverseZones" | "zones">): AnswerPlan {
    const { wallMs } = this.#now();
    const zones = [...settings.zones, ...settings.reverseZones];
    const signerOf = ({ name, type: of }: DnsRecord) => (of === "DS" ? zoneAbove(name, zones) : zoneOf(name, zones));
    if (plan.isCut === true) return { ...plan, glue: new Map(), signed: { sinceMs: wallMs, soa: undefined } };
    const all = this.#signed(plan.groups, signerOf);
    // The answer to a question for RRSIG contains only the signatures, without the NSEC record that they cover.
    const groups = type === RECORDS.RRSIG.code ? all.filter(([first]) => first?.type !== "NSEC") : all;
    const authority = this.#signed(
      plan.authority.map((record) => [record]),
      signerOf,
    ).flat();
    const soa = [...groups.flat(), ...authority].find((record) => record.type === "SOA");
    return { ...plan, groups, authority, glue: new Map(), signed: { sinceMs: wallMs, soa } };
  }

  /** Returns the signature data for a SOA record with this serial. Throws `SignerBusyError`. */
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

  /** Returns the groups, with each RRset's signatures after its last group. A shared plan may already contain signatures. */
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
        // Times use serial number arithmetic (RFC 4034, 3.1.5).
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
      if (signature.length !== SIGNATURE_BYTES)
        throw new RangeError(`invalid signature: expected ${SIGNATURE_BYTES} bytes, got ${signature.length}`);
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

/** Omits a wildcard label (RFC 4034, 3.1.3). Our zones have no wildcards, but clients can query such names. */
function labelCountOf(name: string): number {
  const [first, ...others] = labelsOf(name);
  return first === undefined || (first.length === 1 && first[0] === ASTERISK) ? others.length : others.length + 1;
}

/** Returns a key for a record's RRset: its name and type number. */
function setOf({ name, type }: DnsRecord): string {
  return `${name} ${RECORDS[type].code}`;
}
