/**
 * The floor under what our node does with gRPC: a bare node:http2 server that decodes nothing. It answers each message, of a unary call or of a
 * stream, with as many bytes as it is told; a call whose path ends in Watch it greets and keeps, and a message of any other call is written to
 * all that it keeps. It prints its port.
 */
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo, Socket } from "node:net";

const answer = Buffer.alloc(Number(process.argv[2] ?? 0) + 5);
answer.writeUInt32BE(answer.length - 5, 1);
/** A change as field 1, so that who counts fields finds one: its tag, its length in two bytes, and what fills it. */
const change = Buffer.alloc(5 + Math.max(0, Number(process.argv[3] ?? 0)));
change.writeUInt32BE(change.length - 5, 1);
if (change.length > 8) {
  change[5] = 0x0a;
  change[6] = ((change.length - 8) & 0x7f) | 0x80;
  change[7] = (change.length - 8) >> 7;
}

const WITH_TRAILERS = { waitForTrailers: true, sendDate: false } as const;

const watches = new Set<ServerHttp2Stream>();
const server = createServer();
server.on("connection", (socket: Socket) => socket.setNoDelay(true));
server.on("stream", (stream, headers) => {
  // With the first answer, so that both leave in one write. The trailers of a call always leave in another: Node sends them in a later turn.
  const begin = () => {
    if (!stream.headersSent) stream.respond({ ":status": 200, "content-type": "application/grpc" }, WITH_TRAILERS);
  };
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.on("error", () => {});
  if (headers[":path"]?.endsWith("Watch") === true) {
    begin();
    watches.add(stream);
    stream.on("close", () => watches.delete(stream));
    stream.write(answer);
    stream.resume();
    return;
  }
  let left: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    left = left.length === 0 ? chunk : Buffer.concat([left, chunk]);
    while (left.length >= 5 && left.length >= 5 + left.readUInt32BE(1)) {
      left = left.subarray(5 + left.readUInt32BE(1));
      for (const watch of watches) watch.write(change);
      begin();
      stream.write(answer);
    }
  });
  stream.on("end", () => stream.end());
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
