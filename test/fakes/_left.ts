import { leftoversOf } from "./leftovers.ts";
const l = await leftoversOf(6_000, 10_000);
console.log("LEFT", JSON.stringify({ c: [l.clients.before.heapBytes, l.clients.after.heapBytes], n: [l.node.before.heapBytes, l.node.after.heapBytes], r: [l.resolver.before.heapBytes, l.resolver.after.heapBytes] }));
