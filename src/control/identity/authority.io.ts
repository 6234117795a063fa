/**
 * The authority of a cluster: admits programs, renews their certificates and keeps the records about them in the control store. Join tokens and the
 * rotation of keys follow Docker Swarm (`swarmkit/ca`). Every act is one transaction, so that a lost answer or a crash leaves either nothing or a
 * record with which the same request is answered again.
 */
import { BACKDATE_MS } from "../../lib/certificates/revocations.ts";
import { IDENTITY_NAME } from "../../lib/certificates/spiffe.ts";
import { isP256PublicKey, isSignedBy, sha256Hex } from "../../lib/crypto.ts";
import { DAY_MS } from "../../lib/duration.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore, StoreCondition, StoreItem, StoreWrite } from "../../store/control/store.ts";
import type { Issuer } from "./issuer.ts";
import { clusterOfToken, newToken, parseToken, secretDigest, tokenText } from "./join-token.ts";
import {
  decodeIssuer,
  decodeName,
  decodeRevocation,
  decodeRoot,
  decodeToken,
  encodeIdentity,
  ISSUERS,
  type IssuerRecord,
  NAMES,
  type NamedIdentity,
  type NameKey,
  type NameRecord,
  nameKey,
  nameOfKey,
  REVOCATIONS,
  type RevocationRecord,
  ROOTS,
  TOKENS,
  type TokenRecord,
} from "./records.ts";
import { isKeyOf, judgeJoin, judgeRenewal, refused, withKey } from "./verdicts.ts";

export interface AuthorityOptions {
  readonly store: ControlStore;
  readonly issuer: Issuer;
  readonly leafTtlMs: number;
  readonly renewAfterEndMs: number;
  /** Throws `not_ready` if a live node does not accept certificates under this root yet. */
  readonly checkRoot?: (rootId: string) => void;
}

/** A request for a first certificate. */
export interface JoinRequest {
  readonly token: string;
  /** Empty if the token decides the name. */
  readonly name: string;
  readonly publicKey: Uint8Array;
  /** Made with the private key, over `joinBytes`. */
  readonly signature: Uint8Array;
}

/** A request for the next certificate. Both keys sign `renewalBytes`. */
export interface RenewalRequest extends NameKey {
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
  readonly newPublicKey: Uint8Array;
  readonly newSignature: Uint8Array;
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

/** The accepted roots in PEM, and the issuers. */
export interface TrustBundle {
  readonly roots: readonly string[];
  readonly issuers: readonly IssuerRecord[];
}

/** Several requests of one token, or for one name, can meet. One of them succeeds in each round. */
const MAX_ROUNDS = 32;
const MAX_TOKENS = 10_000;
/** Time for which a token is listed after it has expired. */
const LISTED_AFTER_END_MS = DAY_MS;

/** The bytes that a newcomer signs to prove that it has the private key. */
export function joinBytes({ token, name, publicKey }: Omit<JoinRequest, "signature">): Uint8Array {
  return signedBytes("join", token, name, publicKey);
}

/** The bytes that the current and the next key sign. */
export function renewalBytes(
  clusterId: string,
  { role, name, newPublicKey }: Pick<RenewalRequest, "name" | "newPublicKey" | "role">,
): Uint8Array {
  return signedBytes("renew", `${clusterId}/${role}`, name, newPublicKey);
}

function signedBytes(act: string, first: string, second: string, key: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`waymark identity ${act}\0${first}\0${second}\0`), key]);
}

export class Authority {
  readonly #options: AuthorityOptions;

  constructor(options: AuthorityOptions) {
    this.#options = options;
  }

  get issuer(): Issuer {
    return this.#options.issuer;
  }

  /** Makes a join token. Only its digest is stored. Rejects with `quota_exceeded` if there are too many tokens. */
  async createToken({ ttlMs, ...terms }: TokenTerms, wallMs: number): Promise<ListedToken & { readonly token: string }> {
    const { clusterId, rootDigest, random } = this.issuer.facts;
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

  /** Admits a newcomer with a token. Rejects with `discovery_access_denied` or `invalid_argument`. */
  async join(request: JoinRequest, wallMs: number): Promise<Admission> {
    const { publicKey, signature, token: text } = request;
    const token = parseToken(text);
    if (token === undefined) throw invalid("token", "must be the line that `waymark mesh token create` prints");
    checkProof("public_key", publicKey, joinBytes(request), signature);
    const { clusterId } = this.issuer.facts;
    if (clusterOfToken(token) !== clusterId)
      throw refused(
        "token_wrong_cluster",
        `token: it is for the cluster ${clusterOfToken(token)}, and this issuer belongs to ${clusterId}`,
      );
    const keyDigest = sha256Hex(publicKey);
    return this.#rounds(async () => {
      const tokenItem = await this.#options.store.get(TOKENS + token.id);
      const known = tokenItem && decodeToken(tokenItem.value);
      const role = known?.role ?? "node";
      const name = request.name === "" ? (known?.name ?? "") : request.name;
      if (known !== undefined && !IDENTITY_NAME.pattern.test(name))
        throw invalid("name", `must have ${IDENTITY_NAME.what}, because the token does not decide the name`);
      const { item, held } = await this.#held({ role, name });
      const asked = { name, keyDigest, tokenId: token.id, secret: token.secret, clusterId };
      const verdict = judgeJoin(asked, { token: known, held }, wallMs);
      if (known === undefined || tokenItem === undefined) return undefined;
      const dnsNames = known.dnsNames;
      const record = this.#record(held, { keyDigest, dnsNames, tokenId: token.id }, wallMs);
      const use = { key: tokenItem.key, value: encodeIdentity({ ...known, used: known.used + (verdict === "repeated" ? 0 : 1) }) };
      const conditions = [versionOf(tokenItem.key, tokenItem), versionOf(nameKey({ role, name }), item)];
      return this.#admit({ role, name, publicKey, record }, conditions, [use]);
    });
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
      const record = this.#record(held, { keyDigest: newKeyDigest, dnsNames: held.dnsNames, tokenId: held.tokenId }, wallMs);
      return this.#admit({ role, name, publicKey: newPublicKey, record }, [versionOf(nameKey({ role, name }), item)], []);
    });
  }

  /**
   * Issues a certificate on an administrator's word, who decides the name. The name's current holder loses it. Rejects with
   * `discovery_access_denied` for a revoked key.
   */
  async issue({ role, name, publicKey, dnsNames, ttlMs }: CertificateRequest, wallMs: number): Promise<Admission> {
    if (!isP256PublicKey(publicKey)) throw invalid("public_key", NO_KEY);
    const keyDigest = sha256Hex(publicKey);
    return this.#rounds(async () => {
      const { item, held } = await this.#held({ role, name });
      if (held?.isRevoked === true && isKeyOf(held, keyDigest)) throw refused("revoked", `public_key: the key of ${name} was revoked`);
      const record = this.#record(held, { keyDigest, dnsNames, tokenId: "" }, wallMs, ttlMs);
      return this.#admit({ role, name, publicKey, record }, [versionOf(nameKey({ role, name }), item)], []);
    });
  }

  /**
   * Revokes an identity: its certificates do not count from now on, and it cannot renew. If the node is an issuer, its issuing key is revoked too.
   * Returns whether it was one. Rejects with `not_found`.
   */
  async revoke(
    { role, name }: NameKey,
    terms: Pick<RevocationRecord, "reason" | "revokedBy">,
    wallMs: number,
  ): Promise<{ readonly wasIssuer: boolean }> {
    if (role === "node" && name === this.issuer.facts.nodeId)
      throw invalid("name", "an issuer cannot revoke itself; ask another issuer, or stop the machine");
    return this.#rounds(async () => {
      const { item, held } = await this.#held({ role, name });
      if (held === undefined) throw new WaymarkError("not_found", `name: no certificate was issued for the ${role} ${name}`);
      const base = { ...terms, revokedWallMs: wallMs };
      // Certificates have whole seconds.
      const beforeWallMs = Math.ceil(wallMs / 1000) * 1000;
      const until = { beforeWallMs, untilWallMs: held.lastEndWallMs + BACKDATE_MS };
      const changes: StoreWrite[] = [
        { key: nameKey({ role, name }), value: encodeIdentity({ ...held, isRevoked: true, leastMadeWallMs: beforeWallMs }) },
        { key: `${REVOCATIONS}name/${role}/${name}`, value: encodeIdentity({ ...base, ...until }) },
      ];
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

  /** Removes the revocations whose certificates have all ended. */
  async removeEnded(wallMs: number): Promise<void> {
    for await (const { key, version, value } of allItems(this.#options.store, REVOCATIONS)) {
      const record = decodeRevocation(value);
      if (record !== undefined && wallMs > record.untilWallMs) await this.#options.store.compareAndSwap(key, version, undefined);
    }
  }

  async #issuersOf(nodeId: string): Promise<readonly { readonly key: string; readonly record: IssuerRecord }[]> {
    const found = [];
    for await (const { key, value } of allItems(this.#options.store, ISSUERS)) {
      const record = decodeIssuer(value);
      if (record?.nodeId === nodeId) found.push({ key, record });
    }
    return found;
  }

  /** Lists all identities, by role and name. */
  async identities(): Promise<readonly NamedIdentity[]> {
    const found: NamedIdentity[] = [];
    for await (const { key, value } of allItems(this.#options.store, NAMES)) {
      const [name, record] = [nameOfKey(key), decodeName(value)];
      if (name !== undefined && record !== undefined) found.push({ ...name, record });
    }
    return found;
  }

  /** Returns the roots and the issuers that the store names. */
  async bundle(): Promise<TrustBundle> {
    const roots: string[] = [];
    const issuers: IssuerRecord[] = [];
    for await (const { value } of allItems(this.#options.store, ROOTS)) roots.push(decodeRoot(value)?.certificate ?? "");
    for await (const { value } of allItems(this.#options.store, ISSUERS))
      issuers.push(...[decodeIssuer(value)].filter((each) => each !== undefined));
    return { roots: roots.filter((root) => root !== ""), issuers };
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
      await this.#write(ROOTS + rootDigest, 0, encodeIdentity({ certificate: root, publishedWallMs: wallMs }));
    }
    const record: IssuerRecord = { nodeId, address, rootKey: rootDigest, expiresWallMs: notAfterWallMs };
    await store.transact([], [{ key: ISSUERS + this.issuer.keyId, value: encodeIdentity(record) }]);
  }

  /** The record of a certificate that is made now by this issuer. */
  #record(
    held: NameRecord | undefined,
    of: Pick<NameRecord, "dnsNames" | "keyDigest" | "tokenId">,
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
    this.#options.checkRoot?.(this.issuer.facts.rootDigest.slice(0, 16));
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

/** Checks a key, and that its owner has signed the request. */
function checkProof(field: string, publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): void {
  if (!isP256PublicKey(publicKey)) throw invalid(field, NO_KEY);
  if (!isSignedBy(publicKey, bytes, signature)) throw invalid(field, "its private key has not signed this request");
}

function versionOf(key: string, item: StoreItem | undefined): StoreCondition {
  return { key, version: item?.version ?? 0 };
}
