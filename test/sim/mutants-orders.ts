/** Planted bugs of orders about maintenance, and of what is said of a key where it was before (semantics.md, Maintenance, Several origins for one key). */
export const ORDER_MUTANTS = [
  {
    name: "an order stays at the node that took it",
    rule: "Maintenance: the next registration of a key goes by its order, at whatever node",
    edits: [
      {
        file: "src/catalog/replica/replica.ts",
        find: "    for (const record of this.records(key)) if (isOfKeysCluster(record)) newest = newerOverrides(newest, record.orders);\n",
        replace: "",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
    isCheap: true,
  },
  {
    name: "an owner's order binds the next owner",
    rule: "Maintenance: an owner's order ends when another principal registers the key",
    edits: [
      {
        file: "src/catalog/record/maintenance.ts",
        find: "if (owners === undefined || !owners.isOn || owners.giver === principal) return orders;",
        replace: "if (owners !== undefined || owners === undefined) return orders;",
      },
      {
        file: "src/catalog/record/maintenance.ts",
        find: "return isInForce(owners, wallMs) && owners.giver === principal ? owners : undefined;",
        replace: "return isInForce(owners, wallMs) ? owners : undefined;",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
    isCheap: true,
  },
  {
    name: "an owner's order comes back with its owner",
    rule: "Maintenance: an owner's order that another principal's registration ended has ended for good",
    edits: [
      {
        file: "src/catalog/record/maintenance.ts",
        find: "if (owners === undefined || !owners.isOn || owners.giver === principal) return orders;",
        replace: "if (owners !== undefined || owners === undefined) return orders;",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
  },
  {
    name: "an order never ends by itself",
    rule: "Maintenance: it ends by itself about a second after its time",
    edits: [
      {
        file: "src/discovery/registrar/maintenance.ts",
        find: "if (untilMs <= time.wallMs && left > 0) {",
        replace: "if (untilMs < 0 && left > 0) {",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
  },
  {
    name: "an owner ends what an operator ordered",
    rule: "Maintenance: an owner ends what owners ordered",
    edits: [
      {
        file: "src/discovery/registrar/maintenance.ts",
        find: "  if (isOperators) return OF_OPERATOR;",
        replace: "  if (isOperators) return { isOperators, isOwners };",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
  },
  {
    name: "an order that crosses a move is not taken up",
    rule: "Maintenance: a node that hears of a newer order than its own live record carries takes it up",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: "    if (stored.orders !== undefined) taken.superseded.push(...this.#reordered(stored));\n",
        replace: "    if (stored.seq < 0) taken.superseded.push(...this.#reordered(stored));\n",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
  },
  {
    name: "a late report takes a key back",
    rule: "Several origins: only a registration gives a record a new stamp",
    edits: [
      {
        file: "src/discovery/registrar/entry-puts.ts",
        find: "keepsStamp = true }: RewriteOptions",
        replace: "keepsStamp = false }: RewriteOptions",
      },
    ],
    withinSeeds: 20,
    isOfOrders: true,
    isCheap: true,
  },
  {
    name: "tombstones have no orders",
    rule: "Maintenance: an order is part of the record of the key, of an entry as of a tombstone",
    edits: [{ file: "src/catalog/replica/staging.ts", find: "    orders: end.orders,", replace: "    orders: undefined," }],
    withinSeeds: 20,
    isOfOrders: true,
  },
];
