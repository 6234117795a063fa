/** An edge listener on a free loopback port with the demo service behind it, and ways to talk to it without a client library. */
import { connect, type Socket } from "node:net";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { ChainPorts } from "../../src/server/chain.ts";
import { type EdgeListener, type EdgeListenerOptions, startEdgeListener } from "../../src/server/edge/listener.io.ts";
import type { EdgeLimits } from "../../src/server/edge/sockets.io.ts";
import type { HttpSources } from "../../src/server/http-routes.ts";
import { openScraper } from "../../src/server/metrics.io.ts";
import { type Demo, type DemoChain, demoChain, demoService } from "./demo-service.ts";
import { EDGE_LIMITS } from "./listener-limits.ts";
import { until } from "./until.ts";

export interface DemoEdge extends AsyncDisposable {
  readonly edge: EdgeListener;
  readonly demo: Demo;
  readonly on: DemoChain;
  readonly metrics: Metrics;
  /** `http://127.0.0.1:<port>` */
  readonly base: string;
}

export interface DemoEdgeOptions {
  readonly listener?: Partial<Omit<EdgeListenerOptions, "limits">> & { readonly limits?: Partial<EdgeLimits> };
  readonly sources?: Partial<HttpSources>;
  readonly ports?: Partial<ChainPorts>;
  /** Faults of the server's own make the test fail when it ends, unless it is about them. */
  readonly hasFaults?: boolean;
}

export async function startDemoEdge(options: DemoEdgeOptions = {}): Promise<DemoEdge> {
  const demo = demoService();
  const on = demoChain(options.ports);
  const metrics = new Metrics();
  const sources: HttpSources = {
    metricsAccess: "on",
    openApiAccess: "on",
    openApi: () => Promise.resolve(new TextEncoder().encode("{}")),
    readiness: () => ({ isDraining: on.chain.isDraining, checks: [] }),
    scrape: openScraper(metrics),
    persistence: () => undefined,
    ...options.sources,
  };
  const log = { info: () => {}, warn: () => {} };
  const edge = await startEdgeListener({
    host: "127.0.0.1",
    port: 0,
    services: [demo.service],
    chain: on.chain,
    metrics,
    sources,
    log,
    ...options.listener,
    limits: { ...EDGE_LIMITS, ...options.listener?.limits },
  });
  const dispose = async () => {
    await edge.stop(0);
    if (options.hasFaults !== true && on.faults.length > 0) throw new Error("the server had faults of its own", { cause: on.faults[0] });
  };
  const scheme = options.listener?.tls === undefined ? "http" : "https";
  return { edge, demo, on, metrics, base: `${scheme}://${edge.acceptor.address}`, [Symbol.asyncDispose]: dispose };
}

/** A plain socket that keeps what it receives. */
export class RawClient implements AsyncDisposable {
  readonly socket: Socket;
  isClosed = false;
  #received = Buffer.alloc(0);

  constructor(edge: EdgeListener, options: { readonly isReading?: boolean } = {}) {
    this.socket = connect({ host: edge.acceptor.host, port: edge.acceptor.port, noDelay: true });
    this.socket.on("error", () => {});
    this.socket.once("close", () => {
      this.isClosed = true;
    });
    if (options.isReading ?? true) {
      this.socket.on("data", (chunk: Buffer) => {
        this.#received = Buffer.concat([this.#received, chunk]);
      });
    }
  }

  get text(): string {
    return this.#received.toString("latin1");
  }

  send(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  async closed(what: string): Promise<void> {
    await until(`${what} is cut`, () => this.isClosed);
  }

  async says(text: string): Promise<void> {
    await until(`answer with ${JSON.stringify(text)}, got ${JSON.stringify(this.text.slice(0, 300))}`, () => this.text.includes(text));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
    return Promise.resolve();
  }
}
