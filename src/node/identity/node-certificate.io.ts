/**
 * The certificate of this node, if an issuer of the cluster made it: reads it at the start, and renews it at half of its life. The certificate is in
 * files, and listeners read them again after each renewal. An issuer makes its own certificate.
 */
import type { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
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
import { inRandomOrder } from "../../lib/rng.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { advertisedHost } from "../fabric/address.io.ts";
import { openIssuer } from "./ca.io.ts";
import { IdentityDirectory, type OwnCertificate } from "./directory.io.ts";
import { IssuerError, renewAt } from "./issuer-client.io.ts";

/** A certificate is renewed at this fraction of its life, plus or minus the jitter, so that nodes that started together do not renew together. */
const RENEW_AT = 0.5;
const JITTER = 0.1;
/** Without the control store, an issuer makes its own certificate when this share of its life is left. */
const LATE_SHARE = 0.25;
const MAX_WAIT_MS = MINUTE_MS;
const RETRY = { baseMs: 1000, maxMs: 15_000 } as const;

/** The issuers of this cluster, and the revocations. */
type KnownIssuers = Pick<TrustCopy, "issuers" | "revocations">;

export interface NodeCertificateOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly metrics: Metrics;
  /** A random number from 0 to below 1. */
  readonly random: () => number;
}

/** Returns the settings of a node whose certificate comes from an issuer. They name the files of the identity. Unchanged for other nodes. */
export function withIdentity(settings: Settings, origins: ReadonlyMap<string, string>): Settings {
  const found = withFabricIdentity(settings, origins);
  if (settings.tls.source === "files") return found;
  if (settings.fabric.certFile !== undefined)
    throw new Error('tls.source is "identity", but fabric.cert_file is the certificate of this node: remove one of them');
  if (found === settings)
    throw new Error(`tls.source is "identity", but ${settings.persistence.dataDir} contains no identity: run "waymark mesh join" first`);
  const { certFile, keyFile, caFile } = found.fabric;
  return { ...found, tls: { ...settings.tls, certFile, keyFile, caFile } };
}

function withFabricIdentity(settings: Settings, origins: ReadonlyMap<string, string>): Settings {
  const { identity, persistence, node, fabric, resolver } = settings;
  if (persistence.ephemeral || identity.source === "files") return settings;
  const directory = new IdentityDirectory(persistence.dataDir);
  const issuer = openIssuer(settings);
  if (issuer === undefined && identity.names.length > 0)
    throw new Error('identity.names: only an issuer chooses its names; make the join token of this node with "--dns-name" instead');
  if (!directory.hasIdentity) {
    if (issuer !== undefined) {
      directory.keepRoots(issuer.facts.root);
      selfIssue(issuer, directory, identity);
    } else if (identity.source === "mesh")
      throw new Error(`identity.source is "mesh", but ${persistence.dataDir} contains no identity: run "waymark mesh join" first`);
    else if (directory.isJoining)
      throw new Error(
        `${persistence.dataDir} belongs to a node that has not joined yet: run "waymark mesh join" again, or set identity.source = "files"`,
      );
    else return settings;
  }
  const isResolver = node.mode === "resolver";
  if ((isResolver ? resolver.tlsCertFile : fabric.certFile) !== undefined) {
    if (identity.source === "auto") return settings;
    const setting = isResolver ? "resolver.tls_cert_file" : "fabric.cert_file";
    throw new Error(`${setting}: the certificate comes from the source "${identity.source}" (identity.source); remove ${setting}`);
  }
  const { name: nodeId, clusterId, role } = directory.read();
  if (role !== node.mode) throw new Error(`identity: ${directory.nodeFile} belongs to the ${role} ${nodeId}, not to a ${node.mode}`);
  if ((node.id ?? nodeId) !== nodeId) throw new Error(`node.id is ${node.id}, but ${directory.nodeFile} belongs to node ${nodeId}`);
  if ((namedCluster(settings, origins) ?? clusterId) !== clusterId)
    throw new Error(`node.cluster_id is ${node.clusterId}, but ${directory.nodeFile} belongs to cluster ${clusterId}`);
  const own = { ...settings, node: { ...node, id: nodeId, clusterId } };
  const files = { certFile: directory.nodeFile, keyFile: directory.nodeFile, caFile: directory.rootsFile };
  const { certFile: tlsCertFile, keyFile: tlsKeyFile } = files;
  // The upstreams of a resolver with an identity from SPIRE possibly serve clients with certificates of another CA.
  const tlsCaFile = (identity.source === "spire" ? resolver.tlsCaFile : undefined) ?? files.caFile;
  if (isResolver) return { ...own, resolver: { ...resolver, tls: true, tlsCertFile, tlsKeyFile, tlsCaFile } };
  const issuers = directory.copyOf(clusterId).issuers;
  const known = issuers.flatMap((each) => (each.nodeId === nodeId ? [] : [each.address]));
  return { ...own, fabric: { ...fabric, ...files, seeds: fabric.seeds.length === 0 ? known : fabric.seeds } };
}

/** The cluster in the settings. Undefined if they do not contain one. */
export function namedCluster({ node }: Settings, origins: ReadonlyMap<string, string>): string | undefined {
  return (origins.get("node.cluster_id") ?? "default") === "default" ? undefined : node.clusterId;
}

/** The names in the certificate of an issuer. */
function namesOf(issuer: Issuer, { names }: Settings["identity"]): readonly string[] {
  return [issuer.serverName, ...names];
}

/** Whether clients that dial this host accept the certificate. */
function hasName(certificate: X509Certificate, host: string): boolean {
  return (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined;
}

/** Makes the next certificate of an issuer. */
function selfIssue(issuer: Issuer, directory: IdentityDirectory, identity: Settings["identity"]): void {
  const { nodeId: name, root } = issuer.facts;
  const key = directory.nextKey();
  const madeWallMs = now().wallMs;
  const times = { madeWallMs, expiresWallMs: issuer.expiryOf(madeWallMs, identity.leafTtlMs) };
  const { publicKey } = new P256PrivateKey(key);
  const certificates = issuer.certify({ role: "node", name, publicKey, dnsNames: namesOf(issuer, identity), ...times });
  // Newcomers find the root, whose digest they know, in the chain of an issuer.
  directory.keep(key, certificates + root);
}

/** Opens the identity that `withIdentity` has found. Undefined if the node's certificate does not come from an issuer of Waymark. */
export function openNodeCertificate(options: NodeCertificateOptions): NodeCertificate | undefined {
  const { fabric, resolver, persistence, identity } = options.settings;
  return identity.source !== "spire" &&
    [fabric.certFile, resolver.tlsCertFile].includes(new IdentityDirectory(persistence.dataDir).nodeFile)
    ? new NodeCertificate(options)
    : undefined;
}

/** Renews a certificate at one of the issuers, which are asked one after the other. Rejects with the last error. */
export async function renewAtIssuers(directory: IdentityDirectory, { issuers, revocations }: KnownIssuers): Promise<void> {
  const [held, key] = [directory.read(), directory.nextKey()];
  const by = { roots: directory.roots, own: directory.nodePem, revocations };
  let last: unknown = new Error("no issuer is known; join again with a token");
  for (const { address } of issuers) {
    try {
      return directory.keep(key, await renewAt(address, held, by, key));
    } catch (error) {
      last = error;
      if (error instanceof IssuerError && error.isFinal) break;
    }
  }
  throw last;
}

export class NodeCertificate implements NodeComponent {
  readonly issuer: Issuer | undefined;
  readonly directory: IdentityDirectory;
  readonly #options: NodeCertificateOptions;
  readonly #stop = new AbortController();
  #held: OwnCertificate;
  #renewWallMs = 0;
  #known: KnownIssuers;
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
    this.#known = this.directory.copyOf(this.#held.clusterId);
    // An issuer announces itself when it starts. Its key and its names have possibly changed.
    if (this.issuer !== undefined) this.#renewWallMs = 0;
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
  heed(known: KnownIssuers): void {
    this.#known = known;
    const { clusterId, issuerKey } = this.#held;
    if (!known.revocations.issuers.has(`${clusterId}/${issuerKey}`)) return;
    this.#renewWallMs = 0;
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  /** Reads the certificate again, which `waymark cert renew` has possibly replaced. */
  reload(): void {
    this.#held = this.#take(this.directory.read());
  }

  start(): void {
    const { settings, log } = this.#options;
    const host = advertisedHost(settings, settings.listen.host);
    if (settings.tls.source === "identity" && !hasName(this.#held.certificate, host))
      log.warn(
        { host, names: this.#held.certificate.subjectAltName },
        "clients refuse this node: its certificate does not contain the host that they dial; set listen.advertise_host, or join with a token for that host",
      );
    void this.#keepRenewed();
  }

  stop(): void {
    this.#stop.abort();
  }

  observe(): void {
    const { metrics } = this.#options;
    const { wallMs } = now();
    const { madeWallMs, expiresWallMs } = this.#held;
    metrics.set("waymark_identity_expires_seconds", {}, (expiresWallMs - wallMs) / 1000);
    metrics.set("waymark_identity_life_seconds", {}, (expiresWallMs - madeWallMs) / 1000);
    if (this.issuer !== undefined)
      metrics.set("waymark_identity_issuer_expires_seconds", {}, (this.issuer.facts.notAfterWallMs - wallMs) / 1000);
  }

  async #keepRenewed(): Promise<void> {
    const { log, random } = this.#options;
    let failures = 0;
    // Looks at the wall clock often, because timers do not count the time in which a machine was suspended.
    for (let leftMs = this.#dueMs(); await this.#waited(Math.min(leftMs, MAX_WAIT_MS), this.#wake.promise); leftMs = this.#dueMs()) {
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

  /** Resolves after the time, or when `wake` resolves. The value is false if the node stops. */
  async #waited(lengthMs: number, wake?: Promise<void>): Promise<boolean> {
    const timer = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, timer.signal]);
    const waiting = wait(lengthMs, undefined, { ref: false, signal }).catch(() => {});
    await (wake === undefined ? waiting : Promise.race([wake, waiting]));
    timer.abort();
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
    // `waymark cert renew` has possibly replaced the certificate.
    this.#held = this.directory.read();
    const { issuers, revocations } = this.#known;
    if (this.#authority === undefined)
      await renewAtIssuers(this.directory, { issuers: inRandomOrder(issuers, this.#options.random), revocations });
    else await this.#renewSelf(this.#authority);
    this.#held = this.#take(this.directory.read());
    this.#onRenewed();
  }

  /** Announces this issuer, and makes its next certificate. */
  async #renewSelf(authority: Authority): Promise<void> {
    const { issuer } = authority;
    const { identity } = this.#options.settings;
    const { publicKey } = new P256PrivateKey(this.directory.nextKey());
    const { wallMs } = now();
    try {
      await authority.announce(this.#address, wallMs);
      await authority.issueOwn(publicKey, namesOf(issuer, identity), identity.leafTtlMs, wallMs);
      await authority.removeEnded(wallMs);
    } catch (error) {
      // Without the store, an issuer must stay reachable. Under another root, other nodes possibly do not accept it.
      const { issuerKey, madeWallMs, expiresWallMs } = this.#held;
      const isLate = expiresWallMs - wallMs < (expiresWallMs - madeWallMs) * LATE_SHARE;
      if (isLate && issuerKey === issuer.keyId && error instanceof WaymarkError && error.reason === "store_unavailable") {
        selfIssue(issuer, this.directory, identity);
        this.#held = this.directory.read();
        this.#onRenewed();
      }
      throw error;
    }
    selfIssue(issuer, this.directory, identity);
  }
}
