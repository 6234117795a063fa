/**
 * Names of services for channels of grpc-js: `waymark:///namespace/name`. Importing this module registers the scheme (`experimental.registerResolver` of
 * grpc-js). A watch keeps the addresses of a channel current, and the loss of every Waymark server changes none of them.
 */

import { experimental, Metadata, status } from "@grpc/grpc-js";
import { isDrained } from "../../consumer/health-tiers.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import { connect } from "../channel.io.ts";
import type { Client } from "../client.ts";
import { parseServer, SERVER_RULE } from "../connect-options.ts";
import { LiveMap } from "../live/watch.io.ts";
import { RequestError } from "../request-error.ts";
import { addressesOf, parseServiceName, SERVICE_NAME_RULE } from "./addresses.ts";
import { NAMED_ATTRIBUTE, NamedEndpoints } from "./balancer.io.ts";

const SCHEME = "waymark";
const NOWHERE = { region: "", zone: "" };
/** Servers when neither the target nor `resolveNamesBy` names some; several have commas between them. The command line reads it too. */
const SERVERS_VARIABLE = "WAYMARK_SERVER";
const DEFAULT_SERVERS = "127.0.0.1";

/** The client for targets without servers of their own. */
let ownClient: Client | undefined;

/**
 * Channels that are opened from now on with `waymark:///namespace/name` ask this client: for a token, TLS, or servers that the program knows. The
 * program closes it after its channels. Undefined undoes it. Throws a TypeError for anything else.
 */
export function resolveNamesBy(client: Client | undefined): void {
  if (client !== undefined && !isClient(client))
    throw new TypeError("resolveNamesBy: the client is not one that connect() of waymark made");
  ownClient = client;
}

/** A program without types may pass anything. A client of another copy of the package will do, so it is known by what it can do. */
function isClient(client: unknown): boolean {
  return typeof client === "object" && client !== null && "serverBeside" in client;
}

/** A client that several channels share; the last one closes it. */
interface SharedClient {
  readonly client: Client;
  userCount: number;
}

const shared = new Map<string, SharedClient>();

/** A client, and what to do when it is not needed any more. Throws when the servers are no addresses. */
function clientFor(authority: string): { readonly client: Client; readonly release: () => void } {
  if (authority === "" && ownClient !== undefined) return { client: ownClient, release: () => {} };
  const servers = authority === "" ? (process.env[SERVERS_VARIABLE] ?? DEFAULT_SERVERS) : authority;
  let one = shared.get(servers);
  if (one === undefined) {
    const list = servers.split(",").map((server) => server.trim());
    const wrong = list.find((server) => parseServer(server) === undefined);
    if (wrong !== undefined) throw new RangeError(`${JSON.stringify(wrong)} is ${SERVER_RULE}`);
    one = { client: connect({ servers: list }), userCount: 0 };
    shared.set(servers, one);
  }
  const { client } = one;
  one.userCount += 1;
  let isReleased = false;
  const release = (): void => {
    const now = shared.get(servers);
    if (isReleased || now?.client !== client) return;
    isReleased = true;
    now.userCount -= 1;
    if (now.userCount > 0) return;
    shared.delete(servers);
    client.close();
  };
  return { client, release };
}

interface SharedWatch {
  readonly map: LiveMap;
  readonly client: Client;
  readonly release: () => void;
}

/** The name resolver of one channel. */
class WaymarkNames implements experimental.Resolver {
  readonly #target: experimental.GrpcUri;
  readonly #listener: experimental.ResolverListener;
  /** Gives each channel an order of its own among equally near entries, which stays. */
  readonly #salt = fnv64(String(Math.random()));
  #watch: SharedWatch | undefined;
  /** The addresses that the channel was told last. */
  #told = "";
  #hasAddresses = false;

  constructor(target: experimental.GrpcUri, listener: experimental.ResolverListener) {
    this.#target = target;
    this.#listener = listener;
  }

  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return parseServiceName(path)?.name ?? path;
  }

  /** The channel needs addresses, at first and after a lost connection. It may not be told before this returns. */
  updateResolution(): void {
    this.#told = "";
    if (this.#watch !== undefined && this.#watch.map.error === undefined) {
      const { map } = this.#watch;
      process.nextTick(() => this.#tell(map));
      return;
    }
    this.#end();
    const name = parseServiceName(this.#target.path);
    if (name === undefined) {
      process.nextTick(() => this.#refuse(`${this.#target.path} is not namespace/name, ${SERVICE_NAME_RULE}`));
      return;
    }
    try {
      const { client, release } = clientFor(this.#target.authority ?? "");
      const tried = new Set<string>();
      const onBreak = (error: Error): void => {
        if (this.#watch?.map !== map || map.isReady) return;
        const facts = error instanceof RequestError ? error.facts : undefined;
        if (facts !== undefined) tried.add(facts.server);
        // Others that may answer are asked first. The map goes on trying after that, and so do calls that wait for a channel that is ready.
        if (facts !== undefined && (!tried.has(client.server) || client.serverBeside(tried) !== undefined)) return;
        const what = facts?.isReachable === true ? "takes the watch" : "has answered";
        this.#refuse(`no Waymark server ${what}: ${facts === undefined ? "" : `${facts.server}: `}${error.message}`);
      };
      const options = { waitsForServer: true, onChange: () => this.#tell(map), onBreak };
      const map = new LiveMap(client, { namespace: name.namespace, names: [name.name] }, options);
      this.#watch = { map, client, release };
      map.ready.then(
        () => this.#tell(map),
        (error: unknown) => {
          if (this.#watch?.map === map) this.#refuse(messageOf(error));
        },
      );
    } catch (error) {
      process.nextTick(() => this.#refuse(messageOf(error)));
    }
  }

  destroy(): void {
    this.#end();
  }

  #end(): void {
    const watch = this.#watch;
    this.#watch = undefined;
    if (watch !== undefined) void watch.map.close().then(watch.release);
  }

  /** Tells the channel the addresses that the map shows, unless it has them. A map that was closed, or is not complete yet, tells nothing. */
  #tell(map: LiveMap): void {
    const name = parseServiceName(this.#target.path);
    if (this.#watch?.map !== map || !map.isReady || name === undefined) return;
    const draw = (key: string): number => hashFraction(fnv64(key, this.#salt));
    const entries = map.named(name.namespace, name.name);
    const place = this.#watch.client.place ?? NOWHERE;
    const fit = addressesOf(entries, place, draw);
    const told = JSON.stringify([place, fit]);
    if (told === this.#told) return;
    this.#told = told;
    if (fit.length === 0) {
      const isFit = entries.some((entry) => !isDrained(entry));
      return this.#withdraw(`no entry of ${this.#target.path} is fit for traffic${isFit ? ": none has a port that speaks gRPC" : ""}`);
    }
    this.#hasAddresses = true;
    const endpoints = fit.map(({ addresses }) => ({ addresses: [...addresses] }));
    // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
    this.#listener(experimental.statusOrFromValue(endpoints), { [NAMED_ATTRIBUTE]: new NamedEndpoints(fit, place) }, null, "");
  }

  /** The addresses that the channel has are not to be called any more. */
  #withdraw(details: string): void {
    if (!this.#hasAddresses) return this.#refuse(details);
    this.#hasAddresses = false;
    // A channel that has addresses goes on with these after an error, and not after an empty list.
    // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
    this.#listener(experimental.statusOrFromValue([]), {}, null, `waymark: ${details}`);
  }

  /** Calls of the channel fail with this until it is told addresses. */
  #refuse(details: string): void {
    const failure = { code: status.UNAVAILABLE, details: `waymark: ${details}`, metadata: new Metadata() };
    // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
    this.#listener(experimental.statusOrFromError(failure), {}, null, "");
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

experimental.registerResolver(SCHEME, WaymarkNames);
