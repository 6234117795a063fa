/**
 * The join endpoint of an issuer: serves JoinService on the fabric listener, to TLS clients that request the issuers' server name. These clients need
 * no certificate, so their connections and requests are limited by address.
 */
import type { Socket } from "node:net";
import type { Settings } from "../../config/settings.ts";
import { serverLimits, TRANSPORT_LIMITS } from "../../fabric/transport/limits.ts";
import { GrpcServer } from "../../grpc/server/server.io.ts";
import { networkOf } from "../../lib/addresses.ts";
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { NO_REVOCATIONS, type Revocations, revocationOf } from "../../lib/certificates/revocations.ts";
import { identityOfSpiffeId, readAlternativeNames } from "../../lib/certificates/spiffe.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { anonymousCaller, type Caller } from "../../policy/identity/caller.ts";
import type { ConnectionPeer } from "../../policy/identity/tenants.ts";
import type { CallChain } from "../../server/chain.ts";
import { grpcMethods, grpcStatus } from "../../server/grpc-methods.ts";
import { identifyPeer } from "../../server/peer.io.ts";
import { type JoinParts, joinService } from "../../services/identity/join.ts";
import { type ChainOptions, openChain } from "../listeners.io.ts";
import type { NodeCore } from "../rooms.io.ts";
import type { NodeTrust } from "./trust.io.ts";

export interface JoinEndpointOptions extends JoinParts {
  readonly trust: NodeTrust;
  readonly core: NodeCore;
  readonly log: Log;
  readonly settings: Settings;
}

/** A join needs one request, and a program renews once in many minutes. A fleet behind one address needs more. */
const REQUESTS = { limit: 3_000, windowMs: 60_000, maxKeys: 10_000 } as const;
/** An attestation has up to 16 KiB. */
const MAX_REQUEST_BYTES = 32_768;
/** Limits for the connections of strangers, which are all clients except nodes and resolvers with a valid certificate. */
const MAX_STRANGERS = 512;
const MAX_STRANGERS_OF_NETWORK = 64;
/** A node has one connection to follow, and one to renew its certificate. */
const MAX_OF_MEMBER = 8;
/** A program sends its request without delay. */
const IDLE_MS = 5_000;

export class JoinEndpoint {
  /** The server name that clients must request. */
  readonly serverName: string;
  readonly #server: GrpcServer;
  readonly #chain: CallChain;
  readonly #options: JoinEndpointOptions;
  /** Number of open connections by the network of a stranger, or by the SPIFFE id of a member. */
  readonly #counts = new Map<string, number>();
  #strangers = 0;

  constructor(options: JoinEndpointOptions) {
    this.#options = options;
    const { core, log, authority, settings, trust } = options;
    const { clusterId, boot } = core.identity;
    const buckets = new TokenBuckets(REQUESTS);
    this.serverName = authority.issuer.serverName;
    const service = joinService(options);
    const admit: ChainOptions["limits"]["admit"] = ({ principal, isAuthenticated, address }, _cost, monoMs) => {
      // A stranger in the network of a node must not keep this node from renewing its certificate.
      const retryMs = buckets.take(isAuthenticated ? principal : networkOf(address), monoMs);
      if (retryMs > 0) throw new WaymarkError("discovery_rate_limited", "too many requests from this program or network", { retryMs });
    };
    const given: ChainOptions = {
      ...core,
      // Newcomers have no credential.
      settings: { ...settings, tenants: { ...settings.tenants, anonymous: "all" } },
      log,
      now,
      idPrefix: `${boot}-join`,
      limits: { admit, note: (refusal) => core.limits.note(refusal) },
      identities: { identify: (_header, peer) => callerOf(peer, clusterId, trust) },
    };
    this.#chain = openChain(given, [service]);
    const limits = { ...serverLimits(TRANSPORT_LIMITS), maxReceiveBytes: MAX_REQUEST_BYTES, idleTimeoutMs: IDLE_MS };
    this.#server = new GrpcServer({
      methods: grpcMethods([service], this.#chain),
      limits,
      statusOf: (thrown, call) => {
        const [, , method = ""] = call?.method.path.split("/") ?? [];
        return grpcStatus(this.#chain.status(thrown, { requestId: "", service: service.desc.typeName, method }));
      },
      onConnection: (connection, socket) => {
        identifyPeer(connection, socket);
        return true;
      },
    });
  }

  /** Ends the streams of nodes whose certificates were revoked. */
  checkStreams(): void {
    this.#chain.knownStreams.check();
  }

  /** Serves a connection after its TLS handshake. */
  accept(socket: Socket): void {
    const { core, trust } = this.#options;
    const peer = identifyPeer(socket, socket);
    const id = spiffeIdIn(peer, trust.revocations) ?? "";
    const isStranger = !["node", "resolver"].includes(identityOfSpiffeId(id)?.role ?? "");
    const source = isStranger ? networkOf(peer.address) : id;
    const count = this.#counts.get(source) ?? 0;
    const isFull = isStranger ? this.#strangers >= MAX_STRANGERS || count >= MAX_STRANGERS_OF_NETWORK : count >= MAX_OF_MEMBER;
    if (isFull) {
      core.metrics.inc("waymark_connections_refused_total", { listener: "fabric", reason: "limit" });
      return void socket.destroy();
    }
    this.#strangers += Number(isStranger);
    this.#counts.set(source, count + 1);
    socket.once("close", () => {
      this.#strangers -= Number(isStranger);
      const left = (this.#counts.get(source) ?? 1) - 1;
      if (left === 0) this.#counts.delete(source);
      else this.#counts.set(source, left);
    });
    this.#server.accept(socket);
  }

  /** Refuses new requests, and closes connections without requests. */
  drain(graceMs: number): void {
    this.#chain.drain();
    this.#server.drain(graceMs);
  }

  stop(): void {
    this.#server.stop();
  }
}

/** The SPIFFE id in a valid certificate that was not revoked. A program without one can still join, and possibly renew. */
function spiffeIdIn({ certificate }: ConnectionPeer, revocations: Revocations): string | undefined {
  if (certificate?.isTrusted !== true) return undefined;
  const { alternativeNames: subjectAltName, issuer, validFromWallMs, expiresWallMs } = certificate;
  if (now().wallMs > expiresWallMs || revocationOf({ subjectAltName, issuer, validFromWallMs }, revocations) !== undefined)
    return undefined;
  const [uri = "", ...others] = readAlternativeNames(subjectAltName)?.uris ?? [];
  return others.length === 0 && identityOfSpiffeId(uri) !== undefined ? uri : undefined;
}

/** The caller of a connection. A certificate of a revoked issuer names its holder, but does not authenticate it. */
export function callerOf(peer: ConnectionPeer, clusterId: string, { revocations }: Pick<NodeTrust, "revocations">): Caller {
  const { address, certificate } = peer;
  const anonymous = anonymousCaller(clusterId, address);
  const principal = spiffeIdIn(peer, { ...revocations, issuers: NO_REVOCATIONS.issuers });
  if (principal === undefined || certificate?.isTrusted !== true) return anonymous;
  return { ...anonymous, principal, isAuthenticated: spiffeIdIn(peer, revocations) !== undefined, tokenId: certificate.tokenId };
}
