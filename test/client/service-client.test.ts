/** The functions of a client: one for each method of its services. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Channel, Client } from "../../src/client/client.ts";

/** A client of one server that notes what it is asked, and answers with empty messages. */
function clientOf(asked: unknown[]): Client {
  const channel: Channel = {
    server: "a:1",
    unary: (method, request, { timeoutMs }) => {
      asked.push([method.name, request, timeoutMs]);
      return Promise.resolve(create(method.output));
    },
    async *serverStream(method, request) {
      asked.push([method.name, request]);
      yield await Promise.resolve(create(method.output));
    },
    close: () => {},
  };
  return new Client([channel], { timeoutMs: 1000, nowMs: () => 0 });
}

test("a unary method is a call with its request and options, and one that streams to the client an iterable", async () => {
  const asked: unknown[] = [];
  const { discovery } = clientOf(asked);
  const { items } = await discovery.catalogQuery({ namespacePrefix: "svc" }, { timeoutMs: 5 });
  const deltas = [];
  for await (const delta of discovery.catalogWatch({ namespace: "svc.market" })) deltas.push(delta);
  expect(items).toEqual([]);
  expect(deltas).toHaveLength(1);
  expect(asked).toEqual([
    ["CatalogQuery", expect.objectContaining({ namespacePrefix: "svc" }), 5],
    ["CatalogWatch", expect.objectContaining({ namespace: "svc.market" })],
  ]);
});

test("a method to which the client streams has no function", () => {
  const names = Object.keys(clientOf([]).discovery);
  const streaming = DiscoveryService.methods.filter(
    ({ methodKind }) => methodKind === "client_streaming" || methodKind === "bidi_streaming",
  );
  expect(streaming.map(({ localName }) => localName)).toContain("keepAlive");
  expect(streaming.filter(({ localName }) => names.includes(localName))).toEqual([]);
});
