/**
 * The certificate of this node, if an issuer of the cluster made it: reads it at the start, and renews it at half of its life. The certificate is in
 * files, and listeners read them again after each renewal. An issuer makes its own certificate.
 */
import type { KeyObject } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import type { Settings } from "../../config/settings.ts";
import type { Authority } from "../../control/identity/authority.io.ts";
import type { Issuer } from "../../control/identity/issuer.ts";
import type { TrustCopy } from "../../control/identity/trust.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { P256PrivateKey } from "../../lib/crypto.ts";
import { MINUTE_MS } from "../../lib/duration.ts";
import { rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { openIssuer } from "./ca.io.ts";
import { IdentityDirectory, type OwnCertificate } from "./directory.io.ts";
import { IssuerError, renewAt } from "./issuer-client.io.ts";

/** A certificate is renewed at this fraction of its life, plus or minus the jitter, so that nodes that started together do not renew together. */
const RENEW_AT = 0.5;
const JITTER = 0.1;
const MAX_WAIT_MS = MINUTE_MS;
const RETRY = { baseMs: 1000, maxMs: 60_000 } as const;

export interface NodeCertificateOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly metrics: Metrics;
  /** A random number from 0 to below 1. */
  readonly random: () => number;
}

/** Returns the settings of a node whose certificate comes from an issuer. They name the files of the identity. Unchanged for other nodes. */
export function withIdentity(settings: Settings, origins: ReadonlyMap<string, string>): Settings {
  const { identity, persistence, node, fabric } = settings;
  if (node.mode === "resolver" || persistence.ephemeral || identity.source === "files") return settings;
  const directory = new IdentityDirectory(persistence.dataDir);
  const issuer = openIssuer(settings);
  if (!directory.hasIdentity) {
    if (issuer !== undefined) selfIssue(issuer, directory, identity.leafTtlMs);
    else if (identity.source === "mesh")
      throw new Error(`identity.source is "mesh", but ${persistence.dataDir} contains no identity: run "waymark mesh join" first`);
    else if (directory.isJoining)
      throw new Error(
        `${persistence.dataDir} belongs to a node that has not joined yet: run "waymark mesh join" again, or set identity.source = "files"`,
      );
    else return settings;
  }
  if (fabric.certFile !== undefined) {
    if (identity.source === "auto") return settings;
    throw new Error('fabric.cert_file: the certificate comes from the mesh (identity.source = "mesh"); remove fabric.cert_file');
  }
  const { name: nodeId, clusterId, role } = directory.read();
  if (role !== "node") throw new Error(`identity: ${directory.nodeFile} belongs to the ${role} ${nodeId}, not to a node`);
  if ((node.id ?? nodeId) !== nodeId) throw new Error(`node.id is ${node.id}, but ${directory.nodeFile} belongs to node ${nodeId}`);
  if (node.clusterId !== clusterId && (origins.get("node.cluster_id") ?? "default") !== "default")
    throw new Error(`node.cluster_id is ${node.clusterId}, but ${directory.nodeFile} belongs to cluster ${clusterId}`);
  const known = directory.issuers().flatMap((each) => (each.nodeId === nodeId ? [] : [each.address]));
  return {
    ...settings,
    node: { ...node, id: nodeId, clusterId },
    fabric: {
      ...fabric,
      seeds: fabric.seeds.length === 0 ? known : fabric.seeds,
      certFile: directory.nodeFile,
      keyFile: directory.nodeFile,
      caFile: directory.rootsFile,
    },
  };
}

function selfIssue(issuer: Issuer, directory: IdentityDirectory, ttlMs: number): void {
  const { nodeId: name, root } = issuer.facts;
  const key = directory.nextKey();
  const madeWallMs = now().wallMs;
  const times = { madeWallMs, expiresWallMs: issuer.expiryOf(madeWallMs, ttlMs) };
  const { publicKey } = new P256PrivateKey(key);
  const certificates = issuer.certify({ role: "node", name, publicKey, dnsNames: [issuer.serverName], ...times });
  // Newcomers find the root, whose digest they know, in the chain of an issuer.
  directory.keep(key, { certificates: certificates + root, roots: root, issuers: directory.issuers() });
}

/** Opens the identity that `withIdentity` has found. Undefined if the node's certificate does not come from an issuer. */
export function openNodeCertificate(options: NodeCertificateOptions): NodeCertificate | undefined {
  const { fabric, persistence } = options.settings;
  return fabric.certFile === new IdentityDirectory(persistence.dataDir).nodeFile ? new NodeCertificate(options) : undefined;
}

export class NodeCertificate implements NodeComponent {
  readonly issuer: Issuer | undefined;
  readonly directory: IdentityDirectory;
  readonly #options: NodeCertificateOptions;
  readonly #stop = new AbortController();
  #held: OwnCertificate;
  #renewWallMs = 0;
  #trust: TrustCopy | undefined;
  /** Resolved when the certificate must be renewed earlier than planned. */
  #wake = Promise.withResolvers<void>();
  #authority: Authority | undefined;
  /** Called when the files have changed. */
  #onRenewed: () => void = () => {};
  #address = "";

  constructor(options: NodeCertificateOptions) {
    this.#options = options;
    this.directory = new IdentityDirectory(options.settings.persistence.dataDir);
    this.issuer = openIssuer(options.settings);
    this.#held = this.#take(this.directory.read());
  }

  /** Sets the authority, if this node is an issuer. */
  setAuthority(authority: Authority | undefined): void {
    this.#authority = authority;
  }

  /** Calls `onRenewed` after each renewal. `address` is the address at which other nodes reach the fabric listener. */
  serve(address: string, onRenewed: () => void): void {
    this.#address = address;
    this.#onRenewed = onRenewed;
  }

  /** Renews the certificate now if its issuer was revoked. */
  heed(trust: TrustCopy): void {
    this.#trust = trust;
    if (!trust.revocations.issuers.has(this.#held.issuerKey)) return;
    this.#renewWallMs = 0;
    this.#wake.resolve();
  }

  /** The fabric addresses of the issuers. */
  issuers(): readonly string[] {
    const known = this.#trust?.issuers ?? [];
    return (known.length > 0 ? known : this.directory.issuers()).map(({ address }) => address);
  }

  start(): void {
    void this.#keepRenewed();
    if (this.#authority !== undefined) void this.#announce(this.#authority);
  }

  stop(): void {
    this.#stop.abort();
  }

  observe(): void {
    this.#options.metrics.set("waymark_identity_expires_seconds", {}, (this.#held.expiresWallMs - now().wallMs) / 1000);
  }

  async #keepRenewed(): Promise<void> {
    const { log, random } = this.#options;
    let failures = 0;
    // Looks at the wall clock often, because timers do not count the time in which a machine was suspended.
    for (let leftMs = this.#dueMs(); await this.#waited(Math.min(leftMs, MAX_WAIT_MS)); leftMs = this.#dueMs()) {
      if (failures === 0 && this.#dueMs() > 0) continue;
      try {
        await this.#renew();
        failures = 0;
        log.info({ expiresAt: new Date(this.#held.expiresWallMs).toISOString() }, "certificate renewed");
      } catch (error) {
        rethrowInvariant(error);
        failures += 1;
        log.warn({ err: error, expiresAt: new Date(this.#held.expiresWallMs).toISOString() }, "certificate not renewed, trying again");
        await this.#waited(backoffMs(failures - 1, random(), RETRY));
      }
    }
  }

  /** Resolves after the time, with false if the node stops before. */
  async #waited(lengthMs: number): Promise<boolean> {
    const timer = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, timer.signal]);
    await Promise.race([this.#wake.promise, wait(lengthMs, undefined, { ref: false, signal }).catch(() => {})]);
    timer.abort();
    this.#wake = Promise.withResolvers();
    return !this.#stop.signal.aborted;
  }

  #dueMs(): number {
    return Math.max(0, this.#renewWallMs - now().wallMs);
  }

  #take(held: OwnCertificate): OwnCertificate {
    const { madeWallMs, expiresWallMs } = held;
    const share = RENEW_AT + JITTER * (2 * this.#options.random() - 1);
    this.#renewWallMs = madeWallMs + (expiresWallMs - madeWallMs) * share;
    return held;
  }

  async #renew(): Promise<void> {
    const key = this.directory.nextKey();
    if (this.#authority === undefined) await this.#renewAtIssuer(key);
    else await this.#renewSelf(this.#authority, key);
    this.#held = this.#take(this.directory.read());
    this.#onRenewed();
  }

  /** Asks the issuers, one after the other. Rejects with the last error. */
  async #renewAtIssuer(key: KeyObject): Promise<void> {
    const { roots } = this.directory;
    let last: unknown = new Error("no issuer is known; join again with a token");
    for (const address of this.issuers()) {
      try {
        return this.directory.keep(key, await renewAt(address, this.#held, roots, key));
      } catch (error) {
        last = error;
        if (error instanceof IssuerError && error.isFinal) break;
      }
    }
    throw last;
  }

  /** Makes the next certificate. Without the store, it is made nevertheless, because an issuer must stay reachable. */
  async #renewSelf(authority: Authority, key: KeyObject): Promise<void> {
    const { issuer } = authority;
    const { publicKey } = new P256PrivateKey(key);
    const { nodeId: name, root } = issuer.facts;
    const { leafTtlMs: ttlMs } = this.#options.settings.identity;
    const dnsNames = [issuer.serverName];
    const { wallMs } = now();
    try {
      const { chain } = await authority.issueOwn(publicKey, dnsNames, ttlMs, wallMs);
      await authority.removeEnded(wallMs);
      const { roots, issuers } = await authority.bundle();
      this.directory.keep(key, { certificates: chain + root, roots: roots.join(""), issuers });
    } catch (error) {
      if (!(error instanceof WaymarkError && error.reason === "store_unavailable")) throw error;
      this.#options.log.warn({ err: error }, "the issuer's own certificate is not recorded in the control store");
      const times = { madeWallMs: wallMs, expiresWallMs: issuer.expiryOf(wallMs, ttlMs) };
      const certificates = issuer.certify({ role: "node", name, publicKey, dnsNames, ...times });
      this.directory.keep(key, {
        certificates: certificates + root,
        roots: this.directory.roots.toString(),
        issuers: this.directory.issuers(),
      });
    }
  }

  /** Publishes this issuer and its own identity, as soon as the store answers. */
  async #announce(authority: Authority): Promise<void> {
    const { log, random } = this.#options;
    for (let failures = 0; await this.#waited(failures === 0 ? 0 : backoffMs(failures - 1, random(), RETRY)); failures++) {
      try {
        const { wallMs } = now();
        await authority.announce(this.#address, wallMs);
        await authority.issueOwn(this.#held.key.publicKey, [authority.issuer.serverName], this.#held.expiresWallMs - wallMs, wallMs);
        const { roots } = await authority.bundle();
        this.directory.keepRoots(roots.join(""));
        this.#onRenewed();
        return;
      } catch (error) {
        rethrowInvariant(error);
        log.warn({ err: error }, "this issuer is not announced in the control store, trying again");
      }
    }
  }
}
