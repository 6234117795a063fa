/**
 * Gets the certificate of this node from an agent on its machine, by the SPIFFE Workload API (standards/SPIFFE_Workload_API.md of github.com/spiffe/spiffe).
 * The certificate is kept in the same files as one of an issuer, so that the node can start without its agent.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import type { Settings } from "../../config/settings.ts";
import { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { pem } from "../../lib/certificates/certificate.ts";
import { identityOfSpiffeId, type SpiffeIdentity, spiffeIdOf } from "../../lib/certificates/spiffe.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { MAX_PEM_BYTES } from "../../lib/named-file.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { openIssuer } from "./ca.io.ts";
import { IdentityDirectory, keyPem } from "./directory.io.ts";
import { namedCluster } from "./node-certificate.io.ts";
import { callOnce } from "./single-call.io.ts";
import { FETCH_IDENTITIES } from "./spire-codec.ts";

const START_MS = 30_000;
/** In PEM form, the certificates must fit into files that can be read. */
const MAX_ANSWER_BYTES = MAX_PEM_BYTES / 2;
const MAX_IDENTITIES = 100;
const RETRY = { baseMs: 500, maxMs: 15_000 } as const;
/** The agent refuses calls without this header, so that a browser or a proxy cannot be made to fetch keys. */
const SECURITY_HEADER = "workload.spiffe.io";

/** The identity that the agent must give. Without a name or a cluster, it is free to choose them. */
interface WantedIdentity {
  readonly role: SpiffeIdentity["role"];
  readonly name: string | undefined;
  readonly clusterId: string | undefined;
}

/** Gets the certificate at the start of a node. Without an agent, a certificate on disk that has not ended is used. Rejects with an error for the operator. */
export async function fetchFirst(settings: Settings, origins: ReadonlyMap<string, string>, wallMs: number): Promise<void> {
  const directory = new IdentityDirectory(settings.persistence.dataDir);
  if (openIssuer(settings) !== undefined)
    throw new Error(
      `identity.source is "spire", so this node cannot be an issuer: remove its issuing certificate ${settings.identity.issuerCertFile ?? directory.issuerFile}`,
    );
  const done = new AbortController();
  const signal = AbortSignal.any([done.signal, AbortSignal.timeout(START_MS)]);
  let isKept = false;
  const why = await follow(settings, namedCluster(settings, origins), signal, () => {
    isKept = true;
    done.abort();
  });
  if (!isKept && !(directory.hasIdentity && directory.read().expiresWallMs > wallMs)) throw new Error(why);
}

export interface SpireSourceOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly random: () => number;
}

/** Keeps the files up to date while the node runs. The listeners read them again when they change. */
export class SpireSource implements NodeComponent {
  readonly #options: SpireSourceOptions;
  readonly #stop = new AbortController();
  /** Called after each answer of the agent, when the files are up to date. */
  onKept: () => void = () => {};

  constructor(options: SpireSourceOptions) {
    this.#options = options;
  }

  start(): void {
    void this.#keepFollowing();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #keepFollowing(): Promise<void> {
    const { settings, log, random } = this.#options;
    const { signal } = this.#stop;
    const { persistence, node } = settings;
    const directory = new IdentityDirectory(persistence.dataDir);
    let reported = "";
    for (let failures = 0; !signal.aborted; ) {
      // The settings contain the identity with which this node has started.
      const why = await follow(settings, node.clusterId, signal, (isNew) => {
        failures = 0;
        reported = "";
        if (isNew)
          log.info({ expiresAt: new Date(directory.read().expiresWallMs).toISOString() }, "certificate from the SPIFFE agent kept");
        this.onKept();
      });
      if (!signal.aborted && why !== reported) log.warn({ why }, "the SPIFFE agent gives no certificates; the last one stays in use");
      reported = why;
      await wait(backoffMs(failures++, random(), RETRY), undefined, { ref: false, signal }).catch(() => {});
    }
  }
}

/**
 * Keeps each identity that the agent sends for this role, for this cluster if it is defined, and for the name in the settings if there is one.
 * Resolves with the reason why the call has ended.
 */
async function follow(
  { identity, node, persistence }: Settings,
  clusterId: string | undefined,
  signal: AbortSignal,
  onKept: (isNew: boolean) => void,
): Promise<string> {
  const path = identity.spireSocket ?? "";
  const wanted = { role: node.mode, name: node.id, clusterId };
  const directory = new IdentityDirectory(persistence.dataDir);
  let why: string;
  try {
    const socket = connect({ path, signal });
    await once(socket, "connect").catch((cause: Error) => {
      throw new Error(`${cause.message}; start the agent, or set identity.spire_socket to its socket`, { cause });
    });
    const metadata = new GrpcMetadata();
    metadata.add(SECURITY_HEADER, "true");
    const request = { ...FETCH_IDENTITIES, metadata, isSingleResponse: false, scheme: "http" } as const;
    const { status } = await callOnce(socket, request, (bytes) => onKept(keep(bytes, directory, wanted)), signal);
    why = status.message || "the agent has ended the call";
  } catch (error) {
    rethrowInvariant(error);
    why = error instanceof Error ? error.message : String(error);
  }
  return `identity.spire_socket: ${path}: ${why}`;
}

/** Keeps the first identity that is wanted. Returns whether it is new. Throws for an answer that cannot be used. */
function keep(bytes: Uint8Array, directory: IdentityDirectory, { role, name, clusterId }: WantedIdentity): boolean {
  if (bytes.length > MAX_ANSWER_BYTES)
    throw new Error(`the answer from the agent has ${bytes.length} bytes, more than ${MAX_ANSWER_BYTES}`);
  const all = readable("the answer", () => FETCH_IDENTITIES.read(bytes));
  if (all.length > MAX_IDENTITIES) throw new Error(`the agent gives ${all.length} identities, more than ${MAX_IDENTITIES}`);
  const found = all.find(({ spiffeId }) => {
    const given = identityOfSpiffeId(spiffeId);
    return given?.role === role && given.name === (name ?? given.name) && given.clusterId === (clusterId ?? given.clusterId);
  });
  if (found === undefined) {
    const wanted = spiffeIdOf({ trustDomain: "<trust domain>", clusterId: clusterId ?? "<cluster>", role, name: name ?? "<name>" });
    throw new Error(`the agent must give the identity ${wanted}, got ${all.map(({ spiffeId }) => spiffeId).join(" ") || "none"}`);
  }
  const key = readable("the private key", () => createPrivateKey({ key: Buffer.from(found.x509SvidKey), format: "der", type: "pkcs8" }));
  return directory.replace(keyPem(key) + pemOf(found.x509Svid, "chain"), pemOf(found.bundle, "roots"), found.spiffeId);
}

/** The PEM form of certificates in DER, one after the other. */
function pemOf(der: Uint8Array, what: string): string {
  let text = "";
  for (let rest = der, at = 1; rest.length > 0; at++) {
    const { raw } = readable(`certificate ${at} of the ${what}`, () => new X509Certificate(rest));
    text += pem("CERTIFICATE", raw);
    rest = rest.subarray(raw.length);
  }
  return text;
}

function readable<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new Error(`${what} from the agent cannot be read`, { cause });
  }
}
