/** The clients of other clusters: one for each place that somebody names of a cluster, so that nobody's word ends the calls at another place. */
import { create, type DescMessage, type DescMethodServerStreaming, type DescMethodUnary, type MessageShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ServerInfoResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { Client, type ClientOptions } from "../../../src/client/client.ts";
import { OtherClusters } from "../../../src/client/clusters/other-clusters.ts";
import { ServerList } from "../../../src/client/servers/server-list.ts";

const OPTIONS: ClientOptions = { timeoutMs: 1000, lookupTtlMs: 0, nowMs: () => 0, random: () => 0, wait: () => Promise.resolve() };

/** A connection to a server of a cluster. */
class Connection {
  readonly server: string;
  readonly #clusterId: string;
  isClosed = false;

  constructor(clusterId: string, server: string) {
    this.#clusterId = clusterId;
    this.server = server;
  }

  async unary<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>): Promise<MessageShape<O>> {
    const isInfo = method.output.typeName === ServerInfoResponseSchema.typeName;
    return Object.assign(create(method.output), isInfo && { clusterId: this.#clusterId });
  }

  // oxlint-disable-next-line require-yield -- no test opens a stream here
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    _method: DescMethodServerStreaming<I, O>,
  ): AsyncIterable<MessageShape<O>> {
    throw new Error("no stream is opened");
  }

  aim(): void {}

  close(): void {
    this.isClosed = true;
  }
}

function setUp() {
  const opened: Connection[] = [];
  const open = (clusterId: string, server: string) => {
    const connection = new Connection(clusterId, server);
    opened.push(connection);
    return connection;
  };
  const ways = { isTls: () => false, open, lookAt: () => Promise.resolve({ addresses: ["10.0.0.1"] }) };
  const home = new Client(
    new ServerList({ seeds: ["home.example:1"], place: undefined, random: () => 0 }),
    (server) => open("eu1", server),
    OPTIONS,
  );
  return { clusters: new OtherClusters(home, ways, OPTIONS), opened };
}

const placeOf = (clusterId: string, host: string, from = "home.example:1") => ({ clusterId, urls: [`grpc://${host}:1`], from });

test("another place that a stranger names of a cluster ends no call at the one that is known", async () => {
  const { clusters, opened } = setUp();
  const known = clusters.at(placeOf("us1", "a.example"));
  await known.client.discovery.serverInfo({});
  const other = clusters.at(placeOf("us1", "evil.example", "ap.example:1"));
  await other.client.discovery.serverInfo({});
  expect(opened.map(({ server, isClosed }) => `${server} ${isClosed}`)).toEqual(["a.example:1 false", "evil.example:1 false"]);
  expect(clusters.at(placeOf("us1", "a.example"))).toBe(known);
});

test("of many the one used longest ago is closed, and in the end all are", async () => {
  const { clusters, opened } = setUp();
  for (let n = 0; n < 33; n++) {
    await clusters.at(placeOf(`c${n}`, `h${n}.example`)).client.discovery.serverInfo({});
    clusters.at(placeOf("c0", "h0.example"));
  }
  expect(opened.filter(({ isClosed }) => isClosed).map(({ server }) => server)).toEqual(["h1.example:1"]);
  clusters.close();
  expect(opened.every(({ isClosed }) => isClosed)).toBe(true);
});
