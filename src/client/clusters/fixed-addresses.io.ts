/** Targets of grpc-js that are a server at given addresses: it is called by its name, and the name is not looked up. */
import { experimental } from "@grpc/grpc-js";
import { placeOf } from "../tls.io.ts";

const SCHEME = "waymark-at";

/** `server` is `host:port`. */
export function targetAt(server: string, addresses: readonly string[]): string {
  return `${SCHEME}:///${server}/${addresses.join(",")}`;
}

/** The addresses of one channel, which stay. */
class FixedAddresses implements experimental.Resolver {
  readonly #endpoints: readonly experimental.Endpoint[];
  readonly #listener: experimental.ResolverListener;
  #isTold = false;

  constructor({ path }: experimental.GrpcUri, listener: experimental.ResolverListener) {
    const { port } = placeOf(serverIn(path));
    const addresses = path.slice(path.indexOf("/") + 1).split(",");
    this.#endpoints = addresses.map((host) => ({ addresses: [{ host, port }] }));
    this.#listener = listener;
  }

  /** What TLS is asked for, and what stands in the requests. */
  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return serverIn(path);
  }

  /** The channel asks again after each failure, and tries at once what it is told: the same would be tried without a pause. It may not be told before this returns. */
  updateResolution(): void {
    if (this.#isTold) return;
    this.#isTold = true;
    process.nextTick(() => {
      // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
      this.#listener(experimental.statusOrFromValue([...this.#endpoints]), {}, null, "");
    });
  }

  /** The channel is idle, and may begin anew. */
  destroy(): void {
    this.#isTold = false;
  }
}

function serverIn(path: string): string {
  return path.slice(0, path.indexOf("/"));
}

experimental.registerResolver(SCHEME, FixedAddresses);
