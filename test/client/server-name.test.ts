import { expect, test } from "vitest";
import { parseServer } from "../../src/client/server-name.ts";

test.each([
  { text: "127.0.0.1:1", is: "127.0.0.1:1" },
  { text: "node-1.svc", is: "node-1.svc:17420" },
  { text: "[::1]:65535", is: "[::1]:65535" },
  { text: "", is: undefined },
  { text: "::1", is: undefined },
  { text: "host:0", is: undefined },
  { text: "host:65536", is: undefined },
  { text: "host:http", is: undefined },
  { text: "http://host:1", is: undefined },
  { text: "a b:1", is: undefined },
])("the server $text is $is", ({ text, is }) => {
  expect(parseServer(text)).toBe(is);
});
