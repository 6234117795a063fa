/** The roots in the control store: publishes and drops them. Every node applies such a change within seconds. */
import type { X509Certificate } from "node:crypto";
import { certificatesIn, ROOT_ID_LENGTH, rootDigestOf } from "../../lib/certificates/roots.io.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore, StoreItem, StoreWrite } from "../../store/control/store.ts";
import { decodeIssuer, decodeName, decodeRoot, encodeIdentity, ISSUERS, NAMES, nameOfKey, ROOTS } from "./records.ts";
import { judgeDrop, judgeIssue, judgePublish, type RotationState } from "./rotation.ts";

export class RootStore {
  readonly #store: ControlStore;
  readonly #state: () => RotationState;

  constructor(store: ControlStore, state: () => RotationState) {
    this.#store = store;
    this.#state = state;
  }

  /** Throws `not_ready` if a live node does not accept certificates under the root with this digest yet. */
  checkIssue(rootDigest: string): void {
    judgeIssue(rootDigest.slice(0, ROOT_ID_LENGTH), this.#state());
  }

  /** Lists the roots, with the live nodes that do not accept them yet, and those with a certificate under them. */
  async list() {
    const live = this.#state().members ?? [];
    const { items } = await this.#store.list(ROOTS);
    const roots = items.flatMap(({ key, value }) =>
      certificatesIn(decodeRoot(value)?.certificate ?? "").map((certificate) => {
        const rootId = idOfKey(key);
        const missingOn = live.flatMap(({ nodeId, security }) => (security?.roots.includes(rootId) === true ? [] : [nodeId]));
        const usedBy = live.flatMap(({ nodeId, security }) => (security?.root === rootId ? [nodeId] : []));
        return { rootId, certificate, missingOn, usedBy };
      }),
    );
    return { roots, liveCount: live.length };
  }

  /** The id of a root. Throws `invalid_argument` for a text that is not one CA certificate. */
  idOf(pem: string): string {
    return rootDigestOf(readRoot(pem)).slice(0, ROOT_ID_LENGTH);
  }

  /** Publishes a root, unless it is published. Rejects like `idOf`, or with `quota_exceeded`. */
  async publish(pem: string, wallMs: number): Promise<void> {
    const root = readRoot(pem);
    const key = ROOTS + rootDigestOf(root);
    const { items } = await this.#store.list(ROOTS);
    if (items.some((item) => item.key === key)) return;
    judgePublish(items.length);
    await this.#write(items, [{ key, value: encodeIdentity({ certificate: root.toString(), publishedWallMs: wallMs }) }]);
  }

  /** Drops a root, and the records of issuers under it. Rejects with `not_found`, `invalid_argument` or `not_ready`. */
  async drop(rootId: string, isForced: boolean, wallMs: number): Promise<void> {
    const { items } = await this.#store.list(ROOTS);
    const root = items.find(({ key }) => idOfKey(key) === rootId);
    if (root === undefined) throw new WaymarkError("not_found", `root_id: there is no root ${rootId}`);
    const state = { ...this.#state(), published: items.map(({ key }) => idOfKey(key)) };
    const { issuerKeys, holders } = await this.#recorded(rootId, state, wallMs);
    judgeDrop(rootId, state, holders, isForced);
    const removals = [root.key, ...issuerKeys].map((key) => ({ key, value: undefined }));
    await this.#write(items, removals);
  }

  /** The keys of the records of issuers under a root, and the programs with certificates under it. */
  async #recorded(rootId: string, { members = [] }: RotationState, wallMs: number) {
    const [under, elsewhere] = [new Map<string, string>(), new Set<string>()];
    for await (const { key, value } of allItems(this.#store, ISSUERS)) {
      const { nodeId = "", rootKey = "" } = decodeIssuer(value) ?? {};
      if (rootKey.startsWith(rootId)) under.set(key, nodeId);
      else elsewhere.add(nodeId);
    }
    const holders = [...under.values()].flatMap((nodeId) => (elsewhere.has(nodeId) ? [] : [`issuer ${nodeId}`]));
    for await (const { key, value } of allItems(this.#store, NAMES)) {
      const [{ role, name } = {}, record] = [nameOfKey(key), decodeName(value)];
      if (record === undefined || record.isRevoked || record.expiresWallMs < wallMs || !under.has(ISSUERS + record.issuerKey)) continue;
      if (role !== "node" || members.some(({ nodeId }) => nodeId === name)) holders.push(`${role} ${name}`);
    }
    return { issuerKeys: [...under.keys()], holders };
  }

  /** Changes the roots, if they are still the same. */
  async #write(roots: readonly StoreItem[], changes: readonly StoreWrite[]): Promise<void> {
    const conditions = roots.map(({ key, version }) => ({ key, version }));
    const { isCommitted } = await this.#store.transact(conditions, changes);
    if (!isCommitted) throw new WaymarkError("version_conflict", "another request changed the roots at the same time; retry");
  }
}

function idOfKey(key: string): string {
  return key.slice(ROOTS.length, ROOTS.length + ROOT_ID_LENGTH);
}

function readRoot(pem: string): X509Certificate {
  try {
    const [root, ...others] = certificatesIn(pem);
    if (root?.ca === true && others.length === 0) return root;
  } catch {
    // A certificate that cannot be read is refused like any other text.
  }
  throw invalid("certificate", "must be one CA certificate in PEM");
}
