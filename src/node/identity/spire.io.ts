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
import { identityOfSpiffeId } from "../../lib/certificates/spiffe.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { IdentityDirectory, keyPem } from "./directory.io.ts";
import { callOnce } from "./single-call.io.ts";
import { FETCH_IDENTITIES } from "./spire-codec.ts";

const START_MS = 30_000;
const RETRY = { baseMs: 500, maxMs: 15_000 } as const;
/** The agent refuses calls without this header, so that a browser or a proxy cannot be made to fetch keys. */
const SECURITY_HEADER = "workload.spiffe.io";

/** Gets the certificate at the start of a node. Without an agent, a certificate on disk that has not ended is used. Rejects with an error for the operator. */
export async function fetchFirst({ identity, persistence }: Settings, wallMs: number): Promise<void> {
  const directory = new IdentityDirectory(persistence.dataDir);
  const done = new AbortController();
  const signal = AbortSignal.any([done.signal, AbortSignal.timeout(START_MS)]);
  try {
    let isKept = false;
    const why = await follow(identity.spireSocket ?? "", directory, signal, () => {
      isKept = true;
      done.abort();
    });
    if (!isKept) throw new Error(why);
  } catch (error) {
    if (directory.hasIdentity && directory.read().expiresWallMs > wallMs) return;
    throw new Error(`identity.spire_socket: ${identity.spireSocket}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
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
    const directory = new IdentityDirectory(settings.persistence.dataDir);
    for (let failures = 0; !signal.aborted; ) {
      const why = await follow(settings.identity.spireSocket ?? "", directory, signal, (isNew) => {
        failures = 0;
        if (isNew)
          log.info({ expiresAt: new Date(directory.read().expiresWallMs).toISOString() }, "certificate from the SPIFFE agent kept");
        this.onKept();
      }).catch((error: unknown) => {
        rethrowInvariant(error);
        return error instanceof Error ? error.message : String(error);
      });
      if (!signal.aborted && failures === 0) log.warn({ why }, "the SPIFFE agent gives no certificates; the last one stays in use");
      await wait(backoffMs(failures++, random(), RETRY), undefined, { ref: false, signal }).catch(() => {});
    }
  }
}

/** Keeps each identity that the agent sends. Resolves with the reason why the call has ended. Rejects for an answer that cannot be used. */
async function follow(path: string, directory: IdentityDirectory, signal: AbortSignal, onKept: (isNew: boolean) => void): Promise<string> {
  const socket = connect({ path, signal });
  await once(socket, "connect");
  const metadata = new GrpcMetadata();
  metadata.add(SECURITY_HEADER, "true");
  const request = { ...FETCH_IDENTITIES, metadata, isSingleResponse: false, scheme: "http" } as const;
  const { status } = await callOnce(socket, request, (bytes) => onKept(keep(bytes, directory)), signal);
  return status.message || "the agent has ended the call";
}

/** Keeps the first identity of a node or resolver. Returns whether it is new. */
function keep(bytes: Uint8Array, directory: IdentityDirectory): boolean {
  const all = FETCH_IDENTITIES.read(bytes);
  const found = all.find(({ spiffeId }) => ["node", "resolver"].includes(identityOfSpiffeId(spiffeId)?.role ?? ""));
  if (found === undefined)
    throw new Error(
      `the agent must give an identity spiffe://<trust domain>/waymark/cluster/<cluster>/node/<name>, got ${all.map(({ spiffeId }) => spiffeId).join(" ") || "none"}`,
    );
  const key = createPrivateKey({ key: Buffer.from(found.x509SvidKey), format: "der", type: "pkcs8" });
  return directory.replace(keyPem(key) + pemOf(found.x509Svid), pemOf(found.bundle));
}

/** The PEM form of certificates in DER, one after the other. */
function pemOf(der: Uint8Array): string {
  let text = "";
  for (let rest = der; rest.length > 0; ) {
    const { raw } = new X509Certificate(rest);
    text += pem("CERTIFICATE", raw);
    rest = rest.subarray(raw.length);
  }
  return text;
}
