/**
 * The join endpoint of an issuer: serves JoinService on the fabric listener, to TLS clients that request the issuers' server name. These clients need
 * no certificate, so their connections and requests are limited by address.
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { Settings } from "../../config/settings.ts";
import { refused } from "../../control/identity/verdicts.ts";
import { serverLimits, TRANSPORT_LIMITS } from "../../fabric/transport/limits.ts";
import { GrpcServer } from "../../grpc/server/server.io.ts";
import { networkOf, withoutMapping } from "../../lib/addresses.ts";
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { revocationOf } from "../../lib/certificates/revocations.ts";
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
/** Limits for clients without a certificate. Every node can follow, as far as the fabric listener has room for it. */
const MAX_STRANGERS = 512;
const MAX_STRANGERS_OF_NETWORK = 64;

export class JoinEndpoint {
  /** The server name that clients must request. */
  readonly serverName: string;
  readonly #server: GrpcServer;
  readonly #chain: CallChain;
  /** Open connections of strangers, by their networks. */
  readonly #networks = new Map<string, number>();
  #count = 0;

  constructor(options: JoinEndpointOptions) {
    const { core, log, authority, settings, trust } = options;
    const { clusterId, boot } = core.identity;
    const buckets = new TokenBuckets(REQUESTS);
    this.serverName = authority.issuer.serverName;
    const service = joinService(options);
    const admit: ChainOptions["limits"]["admit"] = ({ address }, _cost, monoMs) => {
      const retryMs = buckets.take(networkOf(address), monoMs);
      if (retryMs > 0) throw new WaymarkError("discovery_rate_limited", "too many requests from this network", { retryMs });
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
    const limits = { ...serverLimits(TRANSPORT_LIMITS), maxReceiveBytes: MAX_REQUEST_BYTES };
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
    if (socket instanceof TLSSocket && socket.authorized) return this.#server.accept(socket);
    const network = networkOf(withoutMapping(socket.remoteAddress ?? ""));
    const count = this.#networks.get(network) ?? 0;
    if (this.#count >= MAX_STRANGERS || count >= MAX_STRANGERS_OF_NETWORK) return void socket.destroy();
    this.#count += 1;
    this.#networks.set(network, count + 1);
    socket.once("close", () => {
      this.#count -= 1;
      const left = (this.#networks.get(network) ?? 1) - 1;
      if (left === 0) this.#networks.delete(network);
      else this.#networks.set(network, left);
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

/** A client with a valid certificate is known by its SPIFFE id. Clients without one are anonymous. Throws for a revoked certificate. */
function callerOf({ address, certificate }: ConnectionPeer, clusterId: string, { revocations }: NodeTrust): Caller {
  const anonymous = anonymousCaller(clusterId, address);
  if (certificate?.isTrusted !== true) return anonymous;
  const { alternativeNames: subjectAltName, issuer, validFromWallMs, tokenId } = certificate;
  const revoked = revocationOf({ subjectAltName, issuer, validFromWallMs }, revocations);
  if (revoked !== undefined) throw refused("revoked", revoked);
  const [uri = "", ...others] = readAlternativeNames(subjectAltName)?.uris ?? [];
  const identity = others.length === 0 ? identityOfSpiffeId(uri) : undefined;
  return identity === undefined ? anonymous : { ...anonymous, principal: uri, isAuthenticated: true, tokenId };
}
