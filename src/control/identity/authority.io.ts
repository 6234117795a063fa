/**
 * The authority of a cluster: admits programs, renews their certificates and keeps the records about them in the control store. Join tokens and the
 * rotation of keys follow Docker Swarm (`swarmkit/ca`). Every act is one transaction, so that a lost answer or a crash leaves either nothing or a
 * record with which the same request is answered again.
 */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { BACKDATE_MS } from "../../lib/certificates/revocations.ts";
import { IDENTITY_NAME } from "../../lib/certificates/spiffe.ts";
import { isP256PublicKey, isSignedBy, sha256Hex } from "../../lib/crypto.ts";
import { DAY_MS } from "../../lib/duration.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore, StoreCondition, StoreItem, StorePageRequest, StoreWrite } from "../../store/control/store.ts";
import { decodePolicy, encodePolicy, type JoinPolicy, type JoinPolicyMessage, type PolicyVersion, policyOf } from "./codec.ts";
import type { Issuer } from "./issuer.ts";
import { type Attestation, checkPolicy, judgePolicy } from "./join-policy.ts";
import { clusterOfToken, type JoinToken, newToken, parseToken, secretDigest, tokenText } from "./join-token.ts";
import {
  decodeIssuer,
  decodeName,
  decodeRevocation,
  decodeToken,
  encodeIdentity,
  ISSUERS,
  type IssuerRecord,
  JOIN_POLICY,
  NAMES,
  type NamedIdentity,
  type NameKey,
  type NameRecord,
  nameKey,
  nameOfKey,
  REVOCATIONS,
  type RevocationRecord,
  ROOT_GUARD,
  ROOTS,
  TOKENS,
  type TokenRecord,
} from "./records.ts";
import { type JoinRequest, joinBytes, type RenewalRequest, renewalBytes } from "./requests.ts";
import { RootStore } from "./root-store.io.ts";
import type { RotationState } from "./rotation.ts";
import { isKeyOf, judgeJoin, judgeRenewal, refused, withKey } from "./verdicts.ts";

export interface AuthorityOptions {
  readonly store: ControlStore;
  readonly issuer: Issuer;
  readonly leafTtlMs: number;
  readonly renewAfterEndMs: number;
  /** Verifies an attestation. Resolves with a text if it is not valid. Undefined if this process verifies none. */
  readonly attest?: (token: string, issuers: JoinPolicy["issuers"], wallMs: number) => Promise<Attestation | string>;
  /** The published roots, and the live nodes. Undefined if the roots of this process never change. */
  readonly rotation?: () => RotationState;
}

/** A certificate for an identity. */
export interface Admission extends NameKey {
  /** The leaf and the intermediate, in PEM. */
  readonly chain: string;
  readonly record: NameRecord;
}

export interface TokenTerms extends Pick<TokenRecord, "createdBy" | "dnsNames" | "name" | "role" | "uses"> {
  readonly ttlMs: number;
}

export interface CertificateRequest extends NameKey {
  readonly publicKey: Uint8Array;
  readonly dnsNames: readonly string[];
  readonly ttlMs: number;
}

/** A token without its secret. */
export interface ListedToken {
  readonly id: string;
  readonly record: TokenRecord;
}

/** Several requests of one token, or for one name, can meet. One of them succeeds in each round. */
const MAX_ROUNDS = 32;
const MAX_TOKENS = 10_000;
/** The longest life of a certificate. */
const MAX_LIFE_MS = 90 * DAY_MS;
/** Time for which a token is listed after it has expired. */
const LISTED_AFTER_END_MS = DAY_MS;
/** Time for which a name is kept after its certificate can no longer be renewed. */
const NAME_KEPT_MS = 30 * DAY_MS;
/** Maximum number of names that one attested subject can have, such as the service account of many pods. */
const MAX_ATTESTED_NAMES = 10_000;

export class Authority {
  readonly roots: RootStore;
  readonly #options: AuthorityOptions;
  /** Number of names by attested subject: as of the last `removeEnded`, plus the names that this issuer has admitted since. */
  readonly #attested = new Map<string, number>();

  constructor(options: AuthorityOptions) {
    this.#options = options;
    const { store, rotation = () => ({ published: [], members: [] }) } = options;
    this.roots = new RootStore(store, rotation);
  }

  get issuer(): Issuer {
    return this.#options.issuer;
  }

  /** Makes a join token. Only its digest is stored. Rejects with `quota_exceeded` if there are too many tokens. */
  async createToken({ ttlMs, ...terms }: TokenTerms, wallMs: number): Promise<ListedToken & { readonly token: string }> {
    const { clusterId, rootDigest, random } = this.issuer.facts;
    if (terms.name !== "") checkName(terms.name);
    const kept = await this.tokens(wallMs);
    if (kept.length >= MAX_TOKENS)
      throw new WaymarkError("quota_exceeded", `there are ${kept.length} join tokens; revoke some with "waymark mesh token revoke"`);
    const token = newToken(clusterId, rootDigest, random);
    const times = { createdWallMs: wallMs, expiresWallMs: wallMs + ttlMs };
    const record: TokenRecord = { ...terms, ...times, secretDigest: secretDigest(token.secret), clusterId, used: 0 };
    await this.#write(TOKENS + token.id, 0, encodeIdentity(record));
    return { id: token.id, record, token: tokenText(token) };
  }

  /** Lists the tokens by id. Removes those that expired more than a day ago. */
  async tokens(wallMs: number): Promise<readonly ListedToken[]> {
    const kept: ListedToken[] = [];
    for await (const { key, version, value } of allItems(this.#options.store, TOKENS)) {
      const record = decodeToken(value);
      if (record === undefined) continue;
      if (wallMs > record.expiresWallMs + LISTED_AFTER_END_MS) await this.#options.store.compareAndSwap(key, version, undefined);
      else kept.push({ id: key.slice(TOKENS.length), record });
    }
    return kept;
  }

  /** Removes a token. Programs that it has admitted keep their certificates. Rejects with `not_found`. */
  async revokeToken(id: string): Promise<void> {
    const { store } = this.#options;
    const item = await store.get(TOKENS + id);
    if (item === undefined) throw new WaymarkError("not_found", `token_id: there is no token ${id}`);
    await store.transact([], [{ key: item.key, value: undefined }]);
  }

  /** Admits a newcomer with a token or an attestation. Rejects with `discovery_access_denied` or `invalid_argument`. */
  async join(request: JoinRequest, wallMs: number): Promise<Admission> {
    const { publicKey, signature, token: text, attestation = "" } = request;
    const token = parseToken(text);
    if (token === undefined && (text !== "" || attestation === ""))
      throw invalid("token", "must be the line that `waymark mesh token create` prints");
    checkProof("public_key", publicKey, joinBytes(request), signature);
    const { clusterId } = this.issuer.facts;
    if (token !== undefined && clusterOfToken(token) !== clusterId)
      throw refused(
        "token_wrong_cluster",
        `token: it is for the cluster ${clusterOfToken(token)}, and this issuer belongs to ${clusterId}`,
      );
    return this.#rounds(() => this.#joinRound(request, token, wallMs));
  }

  async #joinRound(request: JoinRequest, token: JoinToken | undefined, wallMs: number): Promise<Admission | undefined> {
    const { clusterId } = this.issuer.facts;
    const tokenKey = TOKENS + (token?.id ?? "");
    const tokenItem = token && (await this.#options.store.get(tokenKey));
    const known = tokenItem && decodeToken(tokenItem.value);
    const name = request.name === "" ? (known?.name ?? "") : request.name;
    const { item: policyItem, found } = await this.joinPolicy();
    const policy = found.policy && policyOf(found.policy);
    const attestation =
      (request.attestation && policy && (await this.#options.attest?.(request.attestation, policy.issuers, wallMs))) ||
      "the join policy needs one, and the request contains none";
    const outcome = judgePolicy(policy, { role: token && (known?.role ?? "node"), clusterId, name, attestation });
    const { role, attestedBy } = outcome;
    const { item, held } = await this.#held({ role, name });
    const keyDigest = sha256Hex(request.publicKey);
    const { id: tokenId, secret } = token ?? { id: "", secret: "" };
    const verdict = judgeJoin({ name, keyDigest, tokenId, secret, clusterId, outcome }, { token: known, held }, wallMs);
    checkName(name, ", because the token does not decide the name");
    if (held === undefined && (this.#attested.get(attestedBy) ?? 0) >= MAX_ATTESTED_NAMES)
      throw new WaymarkError("quota_exceeded", `name: ${attestedBy} has ${MAX_ATTESTED_NAMES} names already`);
    const dnsNames = known === undefined || known.dnsNames.length === 0 ? outcome.dnsNames : known.dnsNames;
    const record = this.#record(held, { keyDigest, dnsNames, tokenId, attestedBy }, wallMs);
    const used = (known?.used ?? 0) + (verdict === "repeated" ? 0 : 1);
    const uses = known === undefined ? [] : [{ key: tokenKey, value: encodeIdentity({ ...known, used }) }];
    const conditions = [versionOf(nameKey({ role, name }), item), versionOf(JOIN_POLICY, policyItem)];
    if (token !== undefined) conditions.push(versionOf(tokenKey, tokenItem));
    const admission = await this.#admit({ role, name, publicKey: request.publicKey, record }, conditions, uses);
    if (admission !== undefined && held === undefined) this.#countAttested(record);
    return admission;
  }

  /** Replaces the join policy. Returns its version. `expectedVersion` is 0 if any version can be replaced. Rejects with `version_conflict`. */
  async applyJoinPolicy(policy: JoinPolicyMessage, expectedVersion: number, appliedBy: string, wallMs: number): Promise<number> {
    const { item, found } = await this.joinPolicy();
    if (expectedVersion !== 0 && expectedVersion !== found.version)
      throw new WaymarkError("version_conflict", `expected_version: the join policy has version ${found.version}, got ${expectedVersion}`);
    const version = found.version + 1;
    const value = encodePolicy({ policy, version, appliedBy, appliedAt: timestampFromMs(wallMs) });
    checkPolicy(policyOf(policy), value.length);
    await this.#write(JOIN_POLICY, item?.version ?? 0, value);
    return version;
  }

  async joinPolicy(): Promise<{ readonly item: StoreItem | undefined; readonly found: PolicyVersion }> {
    const item = await this.#options.store.get(JOIN_POLICY);
    return { item, found: decodePolicy(item?.value) };
  }

  /** Issues the next certificate of an identity. Rejects with `discovery_access_denied` or `invalid_argument`. */
  async renew(request: RenewalRequest, wallMs: number): Promise<Admission> {
    const { role, name, publicKey, newPublicKey } = request;
    const signed = renewalBytes(this.issuer.facts.clusterId, request);
    checkProof("public_key", publicKey, signed, request.signature);
    checkProof("new_public_key", newPublicKey, signed, request.newSignature);
    const { renewAfterEndMs } = this.#options;
    const newKeyDigest = sha256Hex(newPublicKey);
    return this.#rounds(async () => {
      const { item, held } = await this.#held({ role, name });
      judgeRenewal({ name, keyDigest: sha256Hex(publicKey), newKeyDigest, renewAfterEndMs }, held, wallMs);
      if (held === undefined) return undefined;
      if (role !== "node" && held.tokenId === "" && held.attestedBy === "")
        throw refused("join_denied", `name: the certificate of ${name} has a fixed time; make the next one with "waymark cert issue"`);
      // A node that is no longer an issuer loses the name of issuers.
      const dnsNames = held.dnsNames.filter((each) => each !== this.issuer.serverName);
      const record = this.#record(held, { ...held, keyDigest: newKeyDigest, dnsNames }, wallMs);
      return this.#admit({ role, name, publicKey: newPublicKey, record }, [versionOf(nameKey({ role, name }), item)], []);
    });
  }

  /**
   * Issues a certificate on an administrator's word, who decides the name. The name's current holder loses it. Rejects with
   * `discovery_access_denied` for a revoked key.
   */
  async issue({ role, name, publicKey, dnsNames, ttlMs }: CertificateRequest, wallMs: number): Promise<Admission> {
    checkName(name);
    if (!isP256PublicKey(publicKey)) throw invalid("public_key", NO_KEY);
    const keyDigest = sha256Hex(publicKey);
    return this.#rounds(async () => {
      const { item, held } = await this.#held({ role, name });
      if (held?.isRevoked === true && isKeyOf(held, keyDigest)) throw refused("revoked", `public_key: the key of ${name} was revoked`);
      const record = this.#record(held, { keyDigest, dnsNames, tokenId: "", attestedBy: "" }, wallMs, ttlMs);
      return this.#admit({ role, name, publicKey, record }, [versionOf(nameKey({ role, name }), item)], []);
    });
  }

  /**
   * Revokes an identity: its certificates do not count from now on, and it cannot renew. If the node is an issuer, its issuing key is revoked too.
   * Returns whether it was one. Rejects with `not_found` if no certificate is on record for the name, unless `isForced` is set.
   */
  async revoke(
    { role, name }: NameKey,
    { isForced = false, ...terms }: Pick<RevocationRecord, "reason" | "revokedBy"> & { readonly isForced?: boolean },
    wallMs: number,
  ): Promise<{ readonly wasIssuer: boolean }> {
    if (role === "node" && name === this.issuer.facts.nodeId)
      throw invalid("name", "an issuer cannot revoke itself; ask another issuer, or stop the machine");
    return this.#rounds(async () => {
      const { item, held } = await this.#held({ role, name });
      if (held === undefined && !isForced)
        throw new WaymarkError(
          "not_found",
          `name: no certificate is on record for the ${role} ${name}; revoke it with --force if the control store was lost`,
        );
      const base = { ...terms, revokedWallMs: wallMs };
      // Certificates have whole seconds.
      const beforeWallMs = Math.ceil(wallMs / 1000) * 1000;
      const until = { beforeWallMs, untilWallMs: (held?.lastEndWallMs ?? wallMs + MAX_LIFE_MS) + BACKDATE_MS };
      const changes: StoreWrite[] = [{ key: `${REVOCATIONS}name/${role}/${name}`, value: encodeIdentity({ ...base, ...until }) }];
      if (held !== undefined)
        changes.push({ key: nameKey({ role, name }), value: encodeIdentity({ ...held, isRevoked: true, leastMadeWallMs: beforeWallMs }) });
      const own = role === "node" ? await this.#issuersOf(name) : [];
      for (const { key, record } of own) {
        const ending = { beforeWallMs: 0, untilWallMs: record.expiresWallMs + BACKDATE_MS };
        changes.push({ key: `${REVOCATIONS}issuer/${key.slice(ISSUERS.length)}`, value: encodeIdentity({ ...base, ...ending }) });
        changes.push({ key, value: undefined });
      }
      const { isCommitted } = await this.#options.store.transact([versionOf(nameKey({ role, name }), item)], changes);
      return isCommitted ? { wasIssuer: own.length > 0 } : undefined;
    });
  }

  /** Removes the revocations whose certificates have all ended, and the names whose certificates can no longer be renewed. Counts the other names. */
  async removeEnded(wallMs: number): Promise<void> {
    const { store, renewAfterEndMs } = this.#options;
    for await (const { key, version, value } of allItems(store, REVOCATIONS)) {
      const record = decodeRevocation(value);
      if (record !== undefined && wallMs > record.untilWallMs) await store.compareAndSwap(key, version, undefined);
    }
    this.#attested.clear();
    for await (const { key, version, value } of allItems(store, NAMES)) {
      const record = decodeName(value);
      if (record === undefined) continue;
      if (wallMs > record.lastEndWallMs + renewAfterEndMs + NAME_KEPT_MS) await store.compareAndSwap(key, version, undefined);
      else this.#countAttested(record);
    }
  }

  #countAttested({ attestedBy }: NameRecord): void {
    if (attestedBy !== "") this.#attested.set(attestedBy, (this.#attested.get(attestedBy) ?? 0) + 1);
  }

  async #issuersOf(nodeId: string): Promise<readonly { readonly key: string; readonly record: IssuerRecord }[]> {
    const found = [];
    for await (const { key, value } of allItems(this.#options.store, ISSUERS)) {
      const record = decodeIssuer(value);
      if (record?.nodeId === nodeId) found.push({ key, record });
    }
    return found;
  }

  /** Lists identities by role and name, all of them or of one role. `nextAfter` is undefined on the last page. */
  async identities(role?: NameKey["role"], page?: StorePageRequest) {
    const { items, nextAfter } = await this.#options.store.list(role === undefined ? NAMES : nameKey({ role, name: "" }), page);
    const found: NamedIdentity[] = [];
    for (const { key, value } of items) {
      const [name, record] = [nameOfKey(key), decodeName(value)];
      if (name !== undefined && record !== undefined) found.push({ ...name, record });
    }
    return { found, nextAfter };
  }

  /** Records the next certificate of the issuer itself, like `issue`. */
  async issueOwn(publicKey: Uint8Array, dnsNames: readonly string[], ttlMs: number, wallMs: number): Promise<Admission> {
    await this.#checkNotRevoked();
    return this.issue({ role: "node", name: this.issuer.facts.nodeId, publicKey, dnsNames, ttlMs }, wallMs);
  }

  async #checkNotRevoked(): Promise<void> {
    const found = await this.#options.store.get(`${REVOCATIONS}issuer/${this.issuer.keyId}`);
    if (found !== undefined) throw refused("revoked", "this issuer was revoked; stop the node, and give it another name");
  }

  /**
   * Publishes the address of this issuer, and the first root. Rejects with `discovery_access_denied` if the store has other roots than the root of this issuer.
   */
  async announce(address: string, wallMs: number): Promise<void> {
    const { store } = this.#options;
    const { nodeId, root, rootDigest, notAfterWallMs } = this.issuer.facts;
    await this.#checkNotRevoked();
    const { items } = await store.list(ROOTS);
    if (!items.some(({ key }) => key === ROOTS + rootDigest)) {
      if (items.length > 0) throw refused("join_denied", `the root of this issuer is not published; publish it with "waymark ca publish"`);
      const value = encodeIdentity({ certificate: root, publishedWallMs: wallMs });
      // The guard lets only one of several first issuers publish its root.
      const writes = [ROOT_GUARD, ROOTS + rootDigest].map((key) => ({ key, value }));
      if (!(await store.transact([{ key: ROOT_GUARD, version: 0 }], writes)).isCommitted)
        throw new WaymarkError("version_conflict", "another issuer has published its root at the same time; retry");
    }
    const record: IssuerRecord = { nodeId, address, rootKey: rootDigest, expiresWallMs: notAfterWallMs };
    await store.transact([], [{ key: ISSUERS + this.issuer.keyId, value: encodeIdentity(record) }]);
  }

  /** The record of a certificate that is made now by this issuer. */
  #record(
    held: NameRecord | undefined,
    of: Pick<NameRecord, "attestedBy" | "dnsNames" | "keyDigest" | "tokenId">,
    wallMs: number,
    ttlMs = this.#options.leafTtlMs,
  ): NameRecord {
    const { issuer } = this;
    const { lastEndWallMs = 0, leastMadeWallMs = 0 } = held ?? {};
    const madeWallMs = Math.max(wallMs, leastMadeWallMs);
    const expiresWallMs = issuer.expiryOf(madeWallMs, ttlMs);
    const times = { madeWallMs, expiresWallMs, leastMadeWallMs, lastEndWallMs: Math.max(lastEndWallMs, expiresWallMs) };
    const by = { issuer: issuer.facts.nodeId, issuerKey: issuer.keyId };
    return { ...of, ...withKey(held, of.keyDigest), ...by, ...times, isRevoked: false };
  }

  async #held(name: NameKey): Promise<{ readonly item: StoreItem | undefined; readonly held: NameRecord | undefined }> {
    const item = await this.#options.store.get(nameKey(name));
    const held = item && decodeName(item.value);
    if (item !== undefined && held === undefined)
      throw new WaymarkError(
        "version_conflict",
        `the record ${nameKey(name)} in the control store cannot be read; remove it from the store`,
      );
    return { item, held };
  }

  /** Writes the record of an identity and, with it, everything that belongs to its admission. Undefined if a condition no longer holds. */
  async #admit(
    { role, name, publicKey, record }: NamedIdentity & { readonly publicKey: Uint8Array },
    conditions: readonly StoreCondition[],
    writes: readonly StoreWrite[],
  ): Promise<Admission | undefined> {
    this.roots.checkIssue(this.issuer.facts.rootDigest);
    const key = nameKey({ role, name });
    const { isCommitted } = await this.#options.store.transact(conditions, [{ key, value: encodeIdentity(record) }, ...writes]);
    if (!isCommitted) return undefined;
    return { role, name, record, chain: this.issuer.certify({ role, name, publicKey, ...record }) };
  }

  async #rounds<T>(attempt: () => Promise<T | undefined>): Promise<T> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const result = await attempt();
      if (result !== undefined) return result;
    }
    throw new WaymarkError("version_conflict", "too many requests changed the same record at the same time; retry");
  }

  async #write(key: string, version: number, value: Uint8Array): Promise<void> {
    const { isSwapped } = await this.#options.store.compareAndSwap(key, version, value);
    if (!isSwapped) throw new WaymarkError("version_conflict", `another request wrote ${key} at the same time; retry`);
  }
}

const NO_KEY = "must be a public key on the curve P-256, in DER (SubjectPublicKeyInfo)";

/** Throws `invalid_argument` for a name that no SPIFFE id can have. The protos check only its length and characters. */
function checkName(name: string, why = ""): void {
  if (!IDENTITY_NAME.pattern.test(name)) throw invalid("name", `must have ${IDENTITY_NAME.what}${why}`);
}

/** Checks a key, and that its owner has signed the request. */
function checkProof(field: string, publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): void {
  if (!isP256PublicKey(publicKey)) throw invalid(field, NO_KEY);
  if (!isSignedBy(publicKey, bytes, signature)) throw invalid(field, "its private key has not signed this request");
}

function versionOf(key: string, item: StoreItem | undefined): StoreCondition {
  return { key, version: item?.version ?? 0 };
}
