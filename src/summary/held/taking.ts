/** Takes what borders bring, or says why not (docs/design/summaries.md, Taking). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import { BODY, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import type { Opened } from "../codec.ts";
import { MAX_HOPS, type Sealed, type SummaryKey, type SummaryRefusal } from "../summary.ts";
import type { Echoes } from "./echoes.ts";
import type { Keeping } from "./keeping.ts";
import type { HeldParts, Taken, Via } from "./options.ts";
import { Refusals } from "./refusals.ts";
import { claimsOf, keyOf, openSeal } from "./seals.ts";
import type { Source } from "./sources.ts";

/** New announcements of a cluster at once, and in five minutes: twice those that are kept. Each is held, told on, and looked at with all that its cluster said. */
const ANNOUNCED = { limit: 32, windowMs: 300_000, maxKeys: 1024 };

/**
 * New beacons of a source at once, and in so much time. It sends one each third of a ttl. Each goes on to all nodes of the region and all borders, and may take
 * back a hundred summaries.
 */
const BEACONS = { limit: 60, windowMs: 15_000, maxKeys: 1024 };

export class Taking {
  readonly refusals = new Refusals();
  readonly #announced = new TokenBuckets(ANNOUNCED);
  readonly #beacons = new TokenBuckets(BEACONS);
  readonly #keeping: Keeping;
  readonly #echoes: Echoes;
  readonly #parts: Pick<HeldParts, "isExporterOf" | "signer">;

  constructor(keeping: Keeping, echoes: Echoes, parts: Pick<HeldParts, "isExporterOf" | "signer">) {
    this.#keeping = keeping;
    this.#echoes = echoes;
    this.#parts = parts;
  }

  take(what: Opened["what"], { hops: passed, ...rest }: Sealed, via: Via, time: Time, ageMs = 0): Taken {
    const content = openSeal(what, { ...rest, hops: Math.min(passed, MAX_HOPS) });
    if (content === undefined) return this.#refuse("bad_signature", undefined, via, time);
    // One from the source's own cluster, and at least two from another, so that all nodes here see whether the region hears it directly.
    const hops = claimsOf(content).source === via.cluster ? 1 : Math.max(2, passed + 1);
    if (hops > MAX_HOPS) return this.#refuse("limit", content, via, time);
    return this.#judged({ ...content, sealed: { ...rest, hops } }, via, time, ageMs);
  }

  #judged(content: Opened, via: Via, time: Time, ageMs: number): Taken {
    const why = this.#whyNot(content, via, time);
    if (why === "known") {
      if (content.what === "beacon") this.#keeping.hearAgain(content, ageMs, time);
      return { kind: "known" };
    }
    if (why === "echo") this.#echo(content, time);
    if (why !== undefined) return this.#refuse(why, content, via, time);
    if (content.sealed.signature.length === 0) this.tell("unsigned", content, via, time);
    this.#keeping.put(content, time, ageMs);
    if (content.what !== "summary") return { kind: "taken" };
    const { namespace, channel: scope, source } = content.summary;
    if (this.#keeping.isOwned({ namespace, scope }, source)) return { kind: "taken" };
    this.tell("not_owner", content, via, time);
    return { kind: "taken", hidden: "not_owner" };
  }

  /** What costs little is asked first, and the signature last. */
  #whyNot(content: Opened, via: Via, time: Time): SummaryRefusal | "known" | undefined {
    const { judge, sources, options } = this.#keeping;
    const { sealed, what } = content;
    const [key, claims] = [keyOf(content), claimsOf(content)];
    const why = judge.whyNotPlace(claims, via);
    if (why !== undefined) return why;
    if (what === "summary" && !isForOtherRegions(content.summary)) return "not_owner";
    // It would be put and ended each time that somebody tells it.
    if (what === "summary" && !content.summary.withdrawn && !this.#keeping.isLetThrough(content.summary)) return "not_owner";
    if (what === "key") return this.#whyNotKey(content, key, time);
    if (claims.source === options.clusterId) return "echo";
    const standing = this.#standing(content, key, time);
    if (standing === "known" || standing === "older") return standing;
    const source = sources.find(claims.source);
    const late = this.#whyNotTime(content, source, time);
    if (late !== undefined) return late;
    const isNew = what === "summary" && this.#keeping.isNew(key, claims.source);
    if (isNew && source !== undefined && sources.isFull(source, time)) return "limit";
    if (what === "beacon" && this.#beacons.take(claims.source, time.monoMs) > 0) return "limit";
    const unsigned = judge.whyNotSigned(what, claims, sealed, time);
    // What others say in the name of the source, or tell again, costs it nothing.
    if (what === "beacon" && (unsigned !== undefined || standing === "conflict")) this.#beacons.giveBack(claims.source);
    if (unsigned !== undefined) return unsigned;
    if (standing === "conflict") return "conflict";
    if (standing === "replaces") this.tell("conflict", content, via, time);
    return this.#keeping.makeRoom(claims.source, isNew, time) ? undefined : "limit";
  }

  #whyNotKey(content: Opened, key: KeyText, time: Time): SummaryRefusal | "known" | undefined {
    const claims = claimsOf(content);
    const isNew = this.#standing(content, key, time) === "newer";
    if (isNew && this.#announced.take(claims.source, time.monoMs) > 0) return "limit";
    const refused = this.#keeping.judge.whyNotSigned("key", claims, content.sealed, time);
    // What others say in the name of the cluster costs it nothing.
    if (isNew && refused !== undefined) this.#announced.giveBack(claims.source);
    return refused ?? (isNew ? undefined : "known");
  }

  #whyNotTime(content: Opened, source: Source | undefined, time: Time): "stale" | "future" | undefined {
    if (content.what === "key") return undefined;
    const { generatedWallMs } = content.what === "summary" ? content.summary : content.beacon;
    const late = this.#keeping.judge.whyNotTime(generatedWallMs, time);
    if (content.what === "beacon" || late === "future") return late;
    // Beacons come first. Without one nothing of a lost source is held.
    if (source?.state === "dropped") return "stale";
    // A service that does not change is not said again, so a source that lives may have said it long ago.
    return source?.isHeard === true ? undefined : late;
  }

  /** How it stands to what is held of its key, whether that is shown or not. */
  #standing(content: Opened, key: KeyText, time: Time): "newer" | "older" | "known" | "replaces" | "conflict" {
    const { version, exporter, tag } = claimsOf(content);
    if (version < this.#keeping.highest(key, tag, time)) return "older";
    const best = this.#keeping.best(key);
    if (best?.hlc !== version) return "newer";
    const held = this.#keeping.exporterOf(best);
    if (held === exporter) return content.what === "beacon" && this.#isNearer(content, best) ? "newer" : "known";
    return held < exporter ? "replaces" : "conflict";
  }

  /** Whether it passed fewer borders than what is held. Other regions are told whom this one hears directly. */
  #isNearer({ sealed }: Opened, held: StoredRecord): boolean {
    return sealed.hops < this.#keeping.contentOf(held).sealed.hops;
  }

  /**
   * Our own words come back. If they are higher than what we know, the next ones go above them. Who is not the exporter of the key holds them for that one.
   */
  #echo(content: Opened, time: Time): void {
    const { sealed, what } = content;
    if (!this.#isAbove(content, time) || this.#keeping.judge.whyNotSigned(what, claimsOf(content), sealed, time) !== undefined) return;
    const key = keyOf(content);
    this.#echoes.note(key, claimsOf(content));
    if (!this.#isForOthers(key, claimsOf(content).version)) return;
    this.#keeping.putEcho(content, time);
  }

  /** A node without the key holds each echo, so that who did not do it hears of it again. With the key one of them is enough, because the others may say it too. */
  #isForOthers(key: KeyText, version: number): boolean {
    const { signer, isExporterOf = () => true } = this.#parts;
    if (signer === undefined) return true;
    return !isExporterOf(key) && !this.#keeping.replica.records(key).some(({ body, hlc }) => body === BODY.ENTRY && hlc >= version);
  }

  /** A node of our cluster tells of an echo, which was verified here. */
  heardEcho(content: Opened, time: Time): void {
    if (this.#isAbove(content, time)) this.#echoes.note(keyOf(content), claimsOf(content));
  }

  #isAbove(content: Opened, time: Time): boolean {
    const { version, tag } = claimsOf(content);
    return content.sealed.signature.length > 0 && version > this.#keeping.highest(keyOf(content), tag, time);
  }

  #refuse(why: SummaryRefusal, content: Opened | undefined, via: Via, time: Time): Taken {
    this.tell(why, content, via, time);
    return { kind: "refused", why, ...(why === "older" && content !== undefined && { olderThan: keyOf(content) }) };
  }

  /** Counts it, and tells the audit of it. */
  tell(why: SummaryRefusal, content: Opened | undefined, via: Pick<Via, "cluster">, time: Time): void {
    const source = content === undefined ? "" : claimsOf(content).source;
    const { namespace, serviceId: name } = content?.what === "summary" ? content.summary : { namespace: "", serviceId: "" };
    // What claims to be of a cluster of which nothing is held has no row to be counted in.
    const known = this.#keeping.sources.find(source)?.refused;
    known?.set(why, (known.get(why) ?? 0) + 1);
    this.refusals.note({ why, source, via: via.cluster, namespace, name }, time);
  }
}

/** Other channels stay in their region, and the control plane has no summaries. */
function isForOtherRegions({ channel, namespace }: Pick<SummaryKey, "channel" | "namespace">): boolean {
  return channel === SCOPE.GLOBAL && !isControlNamespace(namespace);
}
