/** Provides grpc-js targets for servers at fixed addresses: the server is called by its name, but the name is not looked up. */
import { experimental } from "@grpc/grpc-js";
import { placeOf } from "../tls.io.ts";

const SCHEME = "waymark-at";

/** `server` is `host:port`. */
export function targetAt(server: string, addresses: readonly string[]): string {
  return `${SCHEME}:///${server}/${addresses.join(",")}`;
}

/** The fixed addresses for one channel. */
class FixedAddresses implements experimental.Resolver {
  readonly #endpoints: readonly experimental.Endpoint[];
  readonly #listener: experimental.ResolverListener;
  #isSent = false;

  constructor({ path }: experimental.GrpcUri, listener: experimental.ResolverListener) {
    const { port } = placeOf(serverIn(path));
    const addresses = path.slice(path.indexOf("/") + 1).split(",");
    this.#endpoints = addresses.map((host) => ({ addresses: [{ host, port }] }));
    this.#listener = listener;
  }

  /** The TLS server name, which is also the authority of the requests. */
  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return serverIn(path);
  }

  /**
   * Returns the addresses only once. Otherwise, the channel, which requests them after each failure, would retry the same addresses without a pause.
   * The listener must not be called before this method returns.
   */
  updateResolution(): void {
    if (this.#isSent) return;
    this.#isSent = true;
    process.nextTick(() => {
      // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
      this.#listener(experimental.statusOrFromValue([...this.#endpoints]), {}, null, "");
    });
  }

  /** The channel is idle, so it may request the addresses again. */
  destroy(): void {
    this.#isSent = false;
  }
}

function serverIn(path: string): string {
  return path.slice(0, path.indexOf("/"));
}

experimental.registerResolver(SCHEME, FixedAddresses);
