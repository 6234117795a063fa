/** What a field from another node may be. */
import { expect, test } from "vitest";
import { decodeCallRequest, encodeCallRequest } from "../../../src/fabric/wire/call-codec.ts";
import type { FabricCallRequest } from "../../../src/fabric/wire/messages.ts";
import { detailField } from "../../../src/fabric/wire/messages.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";

function probeVia(targetAddress: string): FabricCallRequest {
  const from = nodeRef("n1");
  return { kind: "probeIndirect", from, targetNodeId: "n2", targetAddress, timeoutMs: 1, updates: [] };
}

test.each(["127.0.0.1:1", "node-1.example:65535", "[::1]:17421", "[fe80::1%eth0]:5", `${"x".repeat(253)}:65535`])(
  "%s is an address",
  (text) => {
    const probe = probeVia(text);
    expect(decodeCallRequest("probeIndirect", encodeCallRequest(probe))).toEqual(probe);
  },
);

test.each([
  "",
  "host",
  "host:",
  "host:0",
  "host:65536",
  "host:1x",
  ":1",
  "::1:17421",
  "[]:1",
  "a b:1",
  "[::1]",
  `${"x".repeat(300)}:1`,
  "h:1\n",
])("%j is not", (text) => {
  expect(() => decodeCallRequest("probeIndirect", encodeCallRequest(probeVia(text)))).toThrow("invalid_argument: target_address: ");
});

test("what a peer says to people is cut, and plays no tricks with a terminal", () => {
  expect(detailField(`\u001b[2J${"x".repeat(300)}`)).toBe(`?[2J${"x".repeat(252)}`);
});
