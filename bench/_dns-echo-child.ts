/**
 * The floor under our gateway: a bare node:dgram socket that looks at nothing but which kind of question it is, and answers with the question's own bytes,
 * made as long as our answer of that kind: `node bench/_dns-echo-child.ts BYTES_OF_A BYTES_OF_SRV`. It prints its port.
 * It uses its socket as the gateway does: no callback, no look-up of its peer's address, and no memory for each answer.
 */
import { createSocket, type RemoteInfo } from "node:dgram";

const [addressBytes = 0, srvBytes = 0] = process.argv.slice(2).map(Number);
/** Length of the first label of an SRV question, `_svc`. */
const SRV_LABEL = 4;

/** Answers follow each other in it, and start again at its end, when those from there have long been sent. */
const answers = Buffer.alloc(1 << 20);
let free = 0;

// oxlint-disable-next-line unicorn/no-null -- it is what a look-up without a fault gives
const socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20, lookup: (name, _options, done) => done(null, name, 4) });
socket.on("message", (query: Buffer, peer: RemoteInfo) => {
  const bytes = query[12] === SRV_LABEL ? srvBytes : addressBytes;
  if (free + bytes > answers.length) free = 0;
  const answer = answers.subarray(free, free + bytes);
  free += bytes;
  query.copy(answer);
  // QR: dnsperf takes nothing else for an answer.
  answer[2] = (query[2] ?? 0) | 0x80;
  socket.send(answer, peer.port, peer.address);
});
socket.bind(0, "127.0.0.1", () => console.log(socket.address().port));
