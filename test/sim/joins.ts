/**
 * Worlds of newcomers: three issuers with one root and one store, whose clocks differ by up to 5 min. Newcomers join with tokens and renew, and repeat
 * their requests, also while the first request is still open. Requests to the store and their answers get lost, programs with wrong tokens and copied
 * keys try to get in, and an operator revokes names. Requests to the store are carried out one by one, in an order that the seed draws.
 */

import { X509Certificate } from "node:crypto";
import { type Admission, Authority, type TokenTerms } from "../../src/control/identity/authority.io.ts";
import {
  decodeName,
  decodeToken,
  encodeIdentity,
  NAMES,
  type NameKey,
  type NameRecord,
  nameKey,
  TOKENS,
  type TokenRecord,
} from "../../src/control/identity/records.ts";
import type { JoinRequest, RenewalRequest } from "../../src/control/identity/requests.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Rng } from "../../src/lib/rng.ts";
import { fixedBytes, joinRequest, renewalRequest, TestKey, TestRoot, TRUST_DOMAIN } from "../fakes/identity.ts";
import { MapStore } from "../fakes/map-store.ts";
import { Violation } from "./leaders.ts";

const CLUSTER = "eu";
const MINUTE_MS = 60_000;
const WALL_START_MS = 1_760_000_000_000;
/** How far the clock of an issuer can be wrong, in either direction. */
const CLOCK_MS = 5 * MINUTE_MS;
const LEAF_TTL_MS = 60 * MINUTE_MS;
const RENEW_AFTER_END_MS = 60 * MINUTE_MS;
const PROGRAM_COUNT = 8;
const MAX_RENEWALS = 4;
const INTRUDER_COUNT = 4;
const MAX_ATTEMPTS = 30;
const TERMS: readonly Pick<TokenTerms, "name" | "role" | "uses">[] = [
  { role: "node", name: "", uses: 3 },
  { role: "client", name: "", uses: 1 },
  { role: "node", name: "n0", uses: 1 },
  { role: "node", name: "n1", uses: 1 },
];

export interface JoinOutcome {
  readonly violation: { readonly invariant: string; readonly message: string } | undefined;
  /** How often each thing happened: `joined`, `renewed`, `lost`, and the problems of refusals. */
  readonly happened: Readonly<Record<string, number>>;
}

/** Sends a request to an issuer. `wallMs` is the time on its clock. */
type Ask = (authority: Authority, wallMs: number) => Promise<Admission>;

/** A certificate, or the problem of the refusal. */
type Answer = Admission | string;

class JoinWorld {
  readonly happened: Record<string, number> = {};
  readonly #rng: Rng;
  readonly #store = new MapStore();
  readonly #issuers: readonly { readonly authority: Authority; readonly skewMs: number }[];
  /** Requests that wait at the store. */
  readonly #waiting: (() => void)[] = [];
  /** Share of the requests to the store that are lost, or whose answers are lost. */
  #loss: number;
  /** Time passes and names are revoked. */
  #isTroubled = true;
  #nowMs = WALL_START_MS;
  #running = 0;
  #fault: Error | undefined;
  /** All keys, and who made them. */
  readonly #keys = new Map<string, { readonly key: TestKey; readonly owner: string }>();
  readonly #tokens: string[] = [];
  /** The admissions of each token, as role, name and key. */
  readonly #admitted = new Map<string, Set<string>>();
  /** The records of names at the last change. */
  #names = new Map<string, NameRecord>();
  #tokenVersions = new Map<string, number>();
  /** The joins that were answered. */
  readonly #joined: { readonly request: JoinRequest; readonly admission: Admission }[] = [];

  constructor(seed: number) {
    this.#rng = new Rng(`joins ${seed}`);
    this.#loss = seed % 3 === 0 ? 0 : this.#rng.next() * 0.25;
    const [root, random] = [new TestRoot(WALL_START_MS), fixedBytes()];
    this.#issuers = ["eu-1", "eu-2", "eu-3"].map((nodeId) => {
      const issuer = root.issuer(nodeId, CLUSTER, { random });
      const options = { store: this.#store, issuer, leafTtlMs: LEAF_TTL_MS, renewAfterEndMs: RENEW_AFTER_END_MS };
      return { authority: new Authority(options), skewMs: this.#rng.int(2 * CLOCK_MS) - CLOCK_MS };
    });
  }

  async run(): Promise<void> {
    for (const terms of TERMS) {
      const ttlMs = (30 + this.#rng.int(120)) * MINUTE_MS;
      const { token } = await this.#issuer.authority.createToken({ ...terms, ttlMs, dnsNames: [], createdBy: "" }, WALL_START_MS);
      this.#tokens.push(token);
    }
    this.#observe();
    this.#store.request = (run, isWrite) => this.#request(run, isWrite);
    for (let at = 0; at < PROGRAM_COUNT; at++) this.#begin(() => this.#live(`p${at}`));
    for (let at = 0; at < INTRUDER_COUNT; at++) this.#begin(() => this.#intrude());
    await this.#carryOut();
    this.#loss = 0;
    this.#isTroubled = false;
    this.#begin(() => this.#checkCalm());
    await this.#carryOut();
  }

  /** Carries out the requests at the store until all programs have ended. */
  async #carryOut(): Promise<void> {
    for (;;) {
      // Everything that does not wait for the store continues first.
      await new Promise(setImmediate);
      if (this.#fault !== undefined) throw this.#fault;
      if (this.#running === 0) return;
      if (this.#isTroubled) {
        this.#nowMs += this.#rng.int(20) === 0 ? this.#rng.int(40 * MINUTE_MS) : this.#rng.int(5000);
        if (this.#rng.int(60) === 0) this.#revoke();
      }
      this.#waiting.splice(this.#rng.int(this.#waiting.length), 1)[0]?.();
    }
  }

  #begin(program: () => Promise<void>): void {
    this.#running += 1;
    void program()
      .catch((error: unknown) => {
        this.#fault ??= error instanceof Error ? error : new Error(String(error));
      })
      .finally(() => {
        this.#running -= 1;
      });
  }

  #request<T>(run: () => T, isWrite: boolean): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => {
        const lost = () => {
          this.#count("lost");
          reject(new WaymarkError("store_unavailable", "lost"));
        };
        if (this.#rng.next() < this.#loss) return lost();
        try {
          const result = run();
          if (isWrite) this.#observe();
          if (isWrite && this.#rng.next() < this.#loss) lost();
          else resolve(result);
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  /** A program that joins, and renews its certificate as long as it can. */
  async #live(owner: string): Promise<void> {
    const at = this.#rng.int(TERMS.length);
    const [text, terms] = [this.#tokens[at], TERMS[at]];
    if (text === undefined || terms === undefined) return;
    const name = terms.name !== "" && this.#rng.int(6) > 0 ? terms.name : `n${this.#rng.int(4)}`;
    let key = this.#newKey(owner);
    const request = joinRequest(text, name, key);
    // The token decides the role, and no field of the request.
    const asked: JoinRequest & { readonly role: string } = { ...request, role: terms.role === "node" ? "client" : "node" };
    const admission = await this.#ask((authority, wallMs) => authority.join(asked, wallMs));
    if (typeof admission === "string") return;
    this.#check(admission, { role: terms.role, name }, key);
    this.#joined.push({ request, admission });
    this.#count("joined");
    for (let renewals = this.#rng.int(MAX_RENEWALS + 1); renewals > 0; renewals--) {
      const next = this.#newKey(owner);
      const renewal = renewalRequest(CLUSTER, { role: terms.role, name }, key, next);
      const renewed = await this.#ask((authority, wallMs) => authority.renew(renewal, wallMs));
      if (typeof renewed === "string") return;
      this.#check(renewed, { role: terms.role, name }, next);
      this.#count("renewed");
      key = next;
    }
  }

  /** A program that has no valid token, or a copy of a key that was replaced. */
  async #intrude(): Promise<void> {
    const key = this.#newKey("intruder");
    const text = this.#tokens[this.#rng.int(TERMS.length)] ?? "";
    const wrong = [
      { token: `${text.slice(0, -1)}${text.endsWith("A") ? "B" : "A"}`, want: ["token_unknown"] },
      { token: text.replace(".eu:", ".us:"), want: ["token_wrong_cluster"] },
    ][this.#rng.int(2)];
    if (wrong === undefined) return;
    const answer = await this.#ask((authority, wallMs) => authority.join(joinRequest(wrong.token, "n3", key), wallMs));
    if (typeof answer !== "string" || !wrong.want.includes(answer)) throw new Violation("uses", `a wrong token gets ${problemOf(answer)}`);
    for (let attempts = 0; attempts < 4; attempts++) {
      const [name, record] = [...this.#names][this.#rng.int(Math.max(1, this.#names.size))] ?? [];
      const copied = this.#keys.get(record?.earlierKeys[this.#rng.int(Math.max(1, record.earlierKeys.length))] ?? "");
      if (name === undefined || copied === undefined) await this.#request(() => {}, false).catch(() => {});
      else {
        const request = renewalRequest(CLUSTER, nameIn(name), copied.key, key);
        const renewed = await this.#ask((authority, wallMs) => authority.renew(request, wallMs));
        if (renewed !== "key_copied" && renewed !== "revoked" && renewed !== "")
          throw new Violation("one key", `a copied key of ${name} gets ${problemOf(renewed)}`);
      }
    }
  }

  /** Sends a request to issuers until one of them answers it. Sometimes two of them get it at the same time. */
  async #ask(ask: Ask): Promise<Answer> {
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const { authority, skewMs } = this.#issuer;
      if (this.#isTroubled && this.#rng.int(4) === 0) {
        const other = this.#issuer;
        this.#begin(async () => void (await this.#attempt(() => ask(other.authority, this.#nowMs + other.skewMs))));
      }
      const answer = await this.#attempt(() => ask(authority, this.#nowMs + skewMs));
      if (answer !== undefined) return answer;
    }
    return "";
  }

  /** Undefined if the outcome is unknown. */
  async #attempt(act: () => Promise<Admission>): Promise<Answer | undefined> {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      if (error.reason === "store_unavailable" || error.reason === "version_conflict") return undefined;
      const problem = error.details.metadata?.["problem"];
      if (problem === undefined) throw error;
      this.#count(problem);
      return problem;
    }
  }

  get #issuer() {
    return this.#issuers[this.#rng.int(this.#issuers.length)] ?? raise("there are issuers");
  }

  #newKey(owner: string): TestKey {
    const key = new TestKey();
    this.#keys.set(key.digest, { key, owner });
    return key;
  }

  #count(what: string): void {
    this.happened[what] = (this.happened[what] ?? 0) + 1;
  }

  #revoke(): void {
    const [key, record] = [...this.#names][this.#rng.int(Math.max(1, this.#names.size))] ?? [];
    if (key === undefined || record === undefined) return;
    const revoked = { ...record, isRevoked: true };
    this.#store.map.transact([], [{ key, value: encodeIdentity(revoked) }]);
    this.#names.set(key, revoked);
  }

  /** Checks an answer: its key, and the name and role in its certificate. */
  #check({ role, name, chain, record }: Admission, want: NameKey, { digest, publicKey }: TestKey): void {
    const { subjectAltName, publicKey: certified } = new X509Certificate(chain);
    const uri = `URI:spiffe://${TRUST_DOMAIN}/waymark/cluster/${CLUSTER}/${want.role}/${want.name}`;
    if (role !== want.role || name !== want.name || subjectAltName !== uri)
      throw new Violation("role", `${want.role} ${want.name} has a certificate for ${subjectAltName}`);
    const isOwn = Buffer.from(publicKey).equals(certified.export({ format: "der", type: "spki" }));
    if (record.keyDigest !== digest || !isOwn) throw new Violation("one key", `${name} has a certificate for another key`);
  }

  /** Checks the changes of one write. */
  #observe(): void {
    const { map } = this.#store;
    const tokens = map.list(TOKENS).items.filter(({ key, version }) => this.#tokenVersions.get(key) !== version);
    const [changed] = tokens.map(({ key, value }) => ({ id: key.slice(TOKENS.length), token: decodeToken(value) ?? raise("a token") }));
    const names = map.list(NAMES).items.map(({ key, value }) => [key, decodeName(value) ?? raise("a name")] as const);
    for (const [key, record] of names) {
      const before = this.#names.get(key);
      if (JSON.stringify(before) === JSON.stringify(record)) continue;
      this.#checkName(key, before, record, changed);
      if (changed === undefined) continue;
      const admitted = this.#admitted.get(changed.id) ?? new Set();
      this.#admitted.set(changed.id, admitted.add(`${key} ${record.keyDigest}`));
    }
    if (changed !== undefined) this.#checkUses(changed);
    this.#names = new Map(names);
    this.#tokenVersions = new Map(map.list(TOKENS).items.map(({ key, version }) => [key, version]));
  }

  #checkUses({ id, token }: { readonly id: string; readonly token: TokenRecord }): void {
    const count = this.#admitted.get(id)?.size ?? 0;
    if (token.used !== count || count > token.uses)
      throw new Violation("uses", `token ${id} counts ${token.used} of ${token.uses} uses, and has admitted ${count} programs`);
  }

  #checkName(key: string, before: NameRecord | undefined, after: NameRecord, by: { readonly token: TokenRecord } | undefined): void {
    const { role, name } = nameIn(key);
    const keys = before === undefined ? [] : [before.keyDigest, ...before.earlierKeys];
    const isNamed = by?.token.name === name;
    if (by !== undefined && by.token.role !== role) throw new Violation("role", `a token for ${by.token.role} admits ${key}`);
    if (before?.isRevoked === true && (!isNamed || keys.includes(after.keyDigest)))
      throw new Violation("revoked", `${key} was revoked, and has a new certificate`);
    if (before === undefined && by === undefined) throw new Violation("uses", `${key} was admitted without a token`);
    if (before === undefined || before.isRevoked || before.keyDigest === after.keyDigest) return;
    const isExpired = this.#nowMs + CLOCK_MS > before.expiresWallMs;
    const [old, next] = [before, after].map(({ keyDigest }) => this.#keys.get(keyDigest)?.owner ?? "?");
    if (by === undefined ? old !== next : !isExpired || !isNamed) throw new Violation("one key", `${key} of ${old} went to ${next}`);
  }

  /** When nothing is lost, only the current key of a name can renew, and repeated requests are answered again. */
  async #checkCalm(): Promise<void> {
    for (const { request, admission } of this.#joined) {
      const held = this.#names.get(nameKey(admission));
      if (held?.keyDigest !== admission.record.keyDigest || held.tokenId !== admission.record.tokenId) continue;
      const answer = await this.#ask((authority, wallMs) => authority.join(request, wallMs));
      if (typeof answer === "string" && answer !== "revoked" && answer !== "token_expired")
        throw new Violation("repeated", `the same request of ${admission.name} gets ${answer}`);
    }
    for (const [key, record] of this.#names) await this.#checkHolder(nameIn(key), record);
  }

  async #checkHolder(name: NameKey, { keyDigest, earlierKeys }: NameRecord): Promise<void> {
    const renewed = async (request: RenewalRequest) => this.#ask((authority, wallMs) => authority.renew(request, wallMs));
    const foreign = [...this.#keys.keys()].filter(() => this.#rng.int(10) === 0);
    for (const digest of new Set([...earlierKeys, ...foreign])) {
      const key = this.#keys.get(digest)?.key;
      if (digest === keyDigest || key === undefined) continue;
      const answer = await renewed(renewalRequest(CLUSTER, name, key, this.#newKey("intruder")));
      if (typeof answer !== "string") throw new Violation("one key", `${name.name} is renewed with a key that is not its own`);
    }
    const holder = this.#keys.get(keyDigest) ?? raise("the holder has a key");
    const request = renewalRequest(CLUSTER, name, holder.key, this.#newKey(holder.owner));
    const first = await renewed(request);
    if (first === "revoked" || first === "identity_expired") return;
    const second = await renewed(request);
    for (const answer of [first, second])
      if (typeof answer === "string") throw new Violation("repeated", `the holder of ${name.name} gets ${answer}`);
  }
}

function nameIn(key: string): NameKey {
  const [role = "", name = ""] = key.slice(NAMES.length).split("/");
  return { role: role === "node" ? "node" : "client", name };
}

function problemOf(answer: Answer): string {
  return typeof answer === "string" ? answer : "a certificate";
}

function raise(message: string): never {
  throw new Error(`not true: ${message}`);
}

/** Runs one world. */
export async function runSeed(seed: number): Promise<JoinOutcome> {
  const world = new JoinWorld(seed);
  let violation: JoinOutcome["violation"];
  try {
    await world.run();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = { invariant: error.invariant, message: error.message };
  }
  return { violation, happened: world.happened };
}
