Feature: Senders are answered
  Contract, section 2. PENDING before any work, then DONE; or the reason on the topic for failures.

  Scenario: Every answer carries the id under both names
    Given a running agent
    When a create job of 16 MiB for "a" is sent
    Then it is answered PENDING and DONE, and nothing else
    And each of its answers carries the id as "job" and as "jobId"
    When a create job of 32 MiB for "a" is sent
    Then it fails with "conflict"
    And each of its answers carries the id as "job" and as "jobId"
    And its failure has a reason and a hint

  Scenario: The specification's two examples share their id, and are two jobs
    Given a running agent
    When a create job of 16 MiB for "a" is sent with id "1234567890"
    Then it is answered PENDING and DONE, and nothing else
    When a delete job for "a" is sent with id "1234567890"
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: Each sender hears of its own jobs only
    Given a running agent
    And two senders
    When the first sends a create job with id "same" of 16 MiB for "first"
    And the second sends a create job with id "same" of 16 MiB for "second"
    Then both are answered PENDING and DONE, and nothing else
    And a volume is attached at "first"
    And a volume is attached at "second"

  Scenario: A job that breaks gets no word but PENDING on the topic for jobs
    Given a running agent
    And a file "file"
    When a create job of 16 MiB for "file" is sent
    Then it fails with "conflict"
    And the file "file" is as it was

  Scenario: A job published while the agent is down is done when it returns
    Given a running agent
    And a volume of 16 MiB at "before"
    When the agent is stopped
    And a create job of 16 MiB for "meanwhile" is sent
    And a delete job for "before" is sent
    And the agent starts
    Then both are answered PENDING and DONE, and nothing else
    And a volume is attached at "meanwhile"
    And no volume is attached at "before"

  @broker
  Scenario: A broker that goes away is awaited, and the answers with it
    Given a broker of its own
    And a running agent
    When the broker goes away and comes back
    And the agent is online again
    And a create job of 16 MiB for "later" is sent
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "later"

  @broker @failpoints
  Scenario: An answer that the broker lost is sent again
    Given a broker of its own
    And an agent whose work waits 1500 milliseconds once
    And the agent starts
    When a create job of 16 MiB for "slow" is sent
    And PENDING has come
    And the broker goes away and comes back
    Then DONE comes, and never PENDING after it
