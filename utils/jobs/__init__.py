"""What ``test.py`` does with many images, beyond one pair after the other; imports utils/, models/ and datasets/.

``pairs`` computes and writes the results of one pair; ``rigs`` calibrates two fixed cameras from their pairs; ``video``
registers and fuses two videos.
"""
