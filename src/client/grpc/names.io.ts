/**
 * Provides service names for grpc-js channels: `waymark:///namespace/name`. Importing this module registers the scheme with
 * `experimental.registerResolver` from grpc-js. A watch keeps the addresses of a channel up to date. The loss of all Waymark servers does not change
 * the addresses.
 */

import { experimental, Metadata, status } from "@grpc/grpc-js";
import { isDrained } from "../../consumer/health-tiers.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import type { Client } from "../client.ts";
import { connect } from "../connect.io.ts";
import { parseServer, SERVER_RULE } from "../connect-options.ts";
import { LiveMap } from "../live/watch.io.ts";
import { RequestError } from "../request-error.ts";
import { addressesOf, parseServiceName, SERVICE_NAME_RULE } from "./addresses.ts";
import { NAMED_ATTRIBUTE, NamedEndpoints } from "./balancer.io.ts";

const SCHEME = "waymark";
const NOWHERE = { region: "", zone: "" };
/**
 * Environment variable that lists the servers, separated by commas. Used for targets without servers if `resolveNamesBy` is not used. The
 * command-line tool also reads this variable.
 */
const SERVERS_VARIABLE = "WAYMARK_SERVER";
const DEFAULT_SERVERS = "127.0.0.1";

/** The client for targets without servers. */
let ownClient: Client | undefined;

/**
 * Sets the client that resolves `waymark:///namespace/name` for channels opened from now on. Use this function if the client needs a token, TLS, or
 * servers that only the program knows. The program must close its channels before it closes the client. Pass undefined to remove the client. Throws a
 * TypeError for any other value.
 */
export function resolveNamesBy(client: Client | undefined): void {
  if (client !== undefined && !isClient(client)) throw new TypeError("resolveNamesBy: expected a client created by connect()");
  ownClient = client;
}

/**
 * An untyped program can pass any value. A client is recognized by its methods, so that a client from another copy of the package also works.
 */
function isClient(client: unknown): boolean {
  return typeof client === "object" && client !== null && "serverBeside" in client;
}

/** A client that several channels share. The client is closed with its last channel. */
interface SharedClient {
  readonly client: Client;
  userCount: number;
}

const shared = new Map<string, SharedClient>();

/** Returns a client and the function that releases it. Throws if a server address is invalid. */
function clientFor(authority: string): { readonly client: Client; readonly release: () => void } {
  if (authority === "" && ownClient !== undefined) return { client: ownClient, release: () => {} };
  const servers = authority === "" ? (process.env[SERVERS_VARIABLE] ?? DEFAULT_SERVERS) : authority;
  let one = shared.get(servers);
  if (one === undefined) {
    const list = servers.split(",").map((server) => server.trim());
    const wrong = list.find((server) => parseServer(server) === undefined);
    if (wrong !== undefined) throw new RangeError(`invalid server ${JSON.stringify(wrong)}: ${SERVER_RULE}`);
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
  /** Gives each channel its own stable order for equally near entries. */
  readonly #salt = fnv64(String(Math.random()));
  #watch: SharedWatch | undefined;
  /** The last addresses that the channel received. */
  #sentText = "";
  #hasAddresses = false;

  constructor(target: experimental.GrpcUri, listener: experimental.ResolverListener) {
    this.#target = target;
    this.#listener = listener;
  }

  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return parseServiceName(path)?.name ?? path;
  }

  /**
   * Called when the channel needs addresses: initially and after a lost connection. The listener must not be called before this method returns.
   */
  updateResolution(): void {
    this.#sentText = "";
    if (this.#watch !== undefined && this.#watch.map.error === undefined) {
      const { map } = this.#watch;
      process.nextTick(() => this.#send(map));
      return;
    }
    this.#end();
    const name = parseServiceName(this.#target.path);
    if (name === undefined) {
      process.nextTick(() => this.#refuse(`invalid service name ${JSON.stringify(this.#target.path)}: ${SERVICE_NAME_RULE}`));
      return;
    }
    try {
      const { client, release } = clientFor(this.#target.authority ?? "");
      const tried = new Set<string>();
      const onBreak = (error: Error): void => {
        if (this.#watch?.map !== map || map.isReady) return;
        const facts = error instanceof RequestError ? error.facts : undefined;
        if (facts !== undefined) tried.add(facts.server);
        // A failure is reported only after every server has been tried. After that, the map keeps trying, and calls that wait for a ready channel
        // keep waiting.
        if (facts !== undefined && (!tried.has(client.server) || client.serverBeside(tried) !== undefined)) return;
        const what = facts?.isReachable === true ? "accepted the watch" : "answered";
        this.#refuse(`no Waymark server ${what}: ${facts === undefined ? "" : `${facts.server}: `}${error.message}`);
      };
      const options = { waitsForServer: true, onChange: () => this.#send(map), onBreak };
      const map = new LiveMap(client, { namespace: name.namespace, names: [name.name] }, options);
      this.#watch = { map, client, release };
      map.ready.then(
        () => this.#send(map),
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

  /** Sends the map's addresses to the channel if they have changed. Sends nothing if the map is closed or not complete yet. */
  #send(map: LiveMap): void {
    const name = parseServiceName(this.#target.path);
    if (this.#watch?.map !== map || !map.isReady || name === undefined) return;
    const draw = (key: string): number => hashFraction(fnv64(key, this.#salt));
    const entries = map.named(name.namespace, name.name);
    const place = this.#watch.client.place ?? NOWHERE;
    const fit = addressesOf(entries, place, draw);
    const text = JSON.stringify([place, fit]);
    if (text === this.#sentText) return;
    this.#sentText = text;
    if (fit.length === 0) {
      const isFit = entries.some((entry) => !isDrained(entry));
      return this.#withdraw(`no entry of ${this.#target.path} can receive traffic${isFit ? ": none has a gRPC port" : ""}`);
    }
    this.#hasAddresses = true;
    const endpoints = fit.map(({ addresses }) => ({ addresses: [...addresses] }));
    // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
    this.#listener(experimental.statusOrFromValue(endpoints), { [NAMED_ATTRIBUTE]: new NamedEndpoints(fit, place) }, null, "");
  }

  /** Removes the channel's addresses, so that they are no longer called. */
  #withdraw(details: string): void {
    if (!this.#hasAddresses) return this.#refuse(details);
    this.#hasAddresses = false;
    // After an error, a channel continues to use its addresses. After an empty list, the channel stops using them.
    // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
    this.#listener(experimental.statusOrFromValue([]), {}, null, `waymark: ${details}`);
  }

  /** Makes the channel's calls fail until it receives addresses. */
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
