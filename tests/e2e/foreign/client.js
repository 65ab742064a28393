// A foreign client: sends the same JSON text over HTTP, gRPC and AMQP, and prints what it was answered.
// node client.js HTTP_URL GRPC_ADDRESS AMQP_URL PROTO_FILE SOURCE PAYLOAD_JSON
'use strict'

const amqp = require('amqplib')
const grpc = require('@grpc/grpc-js')
const protoLoader = require('@grpc/proto-loader')

const [httpUrl, grpcAddress, amqpUrl, protoFile, source, payload] = process.argv.slice(2)

async function overHttp () {
  const answer = await fetch(`${httpUrl}/api/ingest`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: `{"source_name": ${JSON.stringify(source)}, "payload": ${payload}}`
  })
  return { status: answer.status, record: await answer.json() }
}

function overGrpc () {
  const { etlpay } = grpc.loadPackageDefinition(protoLoader.loadSync(protoFile, { keepCase: true, longs: Number }))
  const client = new etlpay.EtlService(grpcAddress, grpc.credentials.createInsecure())
  return new Promise((resolve, reject) => {
    client.Ingest({ source_name: source, payload_json: payload }, (error, response) => {
      client.close()
      error ? reject(error) : resolve({ id: response.id, status: response.status })
    })
  })
}

async function overAmqp () {
  const connection = await amqp.connect(amqpUrl)
  const channel = await connection.createConfirmChannel()
  channel.publish('etlpay.events', 'etl-queue', Buffer.from(payload), { headers: { source } })
  await channel.waitForConfirms()
  await connection.close()
  return 'confirmed'
}

async function main () {
  const answers = { http: await overHttp(), grpc: await overGrpc(), amqp: await overAmqp() }
  process.stdout.write(JSON.stringify(answers))
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`)
  process.exitCode = 1
})
