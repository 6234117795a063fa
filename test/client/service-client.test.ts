import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Caller, serviceClient } from "../../src/client/service-client.ts";

/** Notes what it is asked, and answers with empty messages. */
function caller(asked: unknown[]): Caller {
  return {
    call: (method, request, options) => {
      asked.push([method.name, request, options]);
      return Promise.resolve(create(method.output));
    },
    async *stream(method, request, options) {
      asked.push([method.name, request, options]);
      yield await Promise.resolve(create(method.output));
    },
  };
}

test("a unary method is a call with its request and options, and one that streams to the client an iterable", async () => {
  const asked: unknown[] = [];
  const discovery = serviceClient(DiscoveryService, caller(asked));
  const { items } = await discovery.catalogQuery({ namespacePrefix: "svc" }, { timeoutMs: 5 });
  const deltas = [];
  for await (const delta of discovery.catalogWatch({ namespace: "svc.market" })) deltas.push(delta);
  expect(items).toEqual([]);
  expect(deltas).toHaveLength(1);
  expect(asked).toEqual([
    ["CatalogQuery", { namespacePrefix: "svc" }, { timeoutMs: 5 }],
    ["CatalogWatch", { namespace: "svc.market" }, undefined],
  ]);
});

test("a method to which the client streams has no function", () => {
  const names = Object.keys(serviceClient(DiscoveryService, caller([])));
  const streaming = DiscoveryService.methods.filter(
    ({ methodKind }) => methodKind === "client_streaming" || methodKind === "bidi_streaming",
  );
  expect(streaming.map(({ localName }) => localName)).toContain("keepAlive");
  expect(streaming.filter(({ localName }) => names.includes(localName))).toEqual([]);
});
